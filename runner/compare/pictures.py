"""Pictures of a comparison, from runs to PNG bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, NullLocator, StrMethodFormatter

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.results.canvas import BLUE, GREEN, GREY, GRID, INK, LINES, RED, new_figure, open_frame, png
from deployment_toolkit.results.performance import (
    BATCH,
    CONCURRENCY,
    DISTURBED,
    P99,
    THROUGHPUT,
    US_PER_MS,
    WINDOW_RATES,
    PerformanceRow,
)
from runner.compare.alignment import Together
from runner.compare.lines import Line, LineVerdict
from runner.compare.points import SweepPoint, point_labels, point_of

DIFFERENCES = "differences.png"

_PANEL_INCHES = (6.4, 3.1)
_HEAD_INCHES = 0.7
_WIDE = 30.0  # ratio of the largest to the smallest value from which on an axis is logarithmic
_X = {EvaluationMode.OFFLINE: (BATCH, "batch size, rows"), EvaluationMode.ONLINE: (CONCURRENCY, "concurrent requests")}
_MOST_TICKS = 7
_PERCENTS = (-90, -80, -70, -60, -50, -40, -30, -20, -10, 0, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 900, 9900)
_LINE_INCHES = 0.2
_COLOURS = {LineVerdict.BETTER: GREEN, LineVerdict.WORSE: RED, LineVerdict.EQUAL: GREY, LineVerdict.UNKNOWN: BLUE}


def comparison_plots(together: Sequence[Together], lines: Sequence[Line], names: Sequence[str]) -> dict[str, bytes]:
    """Pictures by file name: for each sweep, the throughput and p99 of every experiment that two runs have; and the
    differences of throughput with their intervals."""
    plots = {}
    for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE):
        shared = [
            item
            for item in together
            if sum(bool(side.performance(mode)) for side in item.sides if side is not None) > 1
        ]
        if shared:
            plots[f"comparison_{mode}.png"] = _figure(shared, names, mode)
    rates = [line for line in lines if line.is_rate]
    if rates:
        plots[DIFFERENCES] = _differences(rates, names)
    return plots


def _differences(lines: Sequence[Line], names: Sequence[str]) -> bytes:
    """Picture of the ratio of every throughput to the first run's, with its interval."""
    figure = new_figure(2 * _PANEL_INCHES[0], _LINE_INCHES * len(lines) + 2 * _HEAD_INCHES, constrained=True)
    axes = figure.add_subplot()
    for verdict, colour in _COLOURS.items():
        rows = [index for index, line in enumerate(lines) if line.verdict is verdict and 0 < line.ratio < math.inf]
        if not rows:
            continue
        ratios = [lines[index].ratio for index in rows]
        known = [lines[index].interval for index in rows]
        reach = [
            [ratio - max(seen.low, 1e-3) if seen else 0.0 for ratio, seen in zip(ratios, known, strict=True)],
            [seen.high - ratio if seen else 0.0 for ratio, seen in zip(ratios, known, strict=True)],
        ]
        axes.errorbar(ratios, rows, xerr=reach, fmt="o", color=colour, capsize=3, markersize=5, label=str(verdict))
    axes.axvline(1.0, color=INK, linewidth=1.0)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    shown = [percent for percent in _PERCENTS if low <= 1 + percent / 100 <= high]
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks([1 + percent / 100 for percent in shown], [f"{percent:+} %" for percent in shown], fontsize=8)
    axes.set_yticks(
        range(len(lines)), [f"{line.place}, {line.run}" if len(names) > 2 else line.place for line in lines], fontsize=8
    )
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)
    title = f"Throughput of {', '.join(names[1:])} against {names[0]}"
    figure.suptitle(title, fontsize=13, weight="bold", x=0.01, ha="left")
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return png(figure)


def _figure(together: Sequence[Together], names: Sequence[str], mode: EvaluationMode) -> bytes:
    width, height = _PANEL_INCHES[0] * 2, _PANEL_INCHES[1] * len(together) + _HEAD_INCHES
    figure = new_figure(width, height, constrained=True)
    grid = figure.subplots(len(together), 2, squeeze=False)
    for item, (rates, latencies) in zip(together, grid, strict=True):
        rows = [() if side is None else side.performance(mode) for side in item.sides]
        points = sorted({point_of(row) for side in rows for row in side})
        for index, (side, name) in enumerate(zip(rows, names, strict=True)):
            if side:
                _draw(rates, latencies, side, points, name, LINES[index % len(LINES)])
        for axes, label in ((rates, "inferences per second"), (latencies, "p99 latency, ms")):
            axes.set_title(item.title, fontsize=10, loc="left")
            _finish(axes, label, points, mode)
    handles, labels = [], []
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label not in labels:
                handles.append(handle)
                labels.append(label)
    figure.suptitle(f"{str(mode).capitalize()}: {' and '.join(names)}", fontsize=13, weight="bold", x=0.01, ha="left")
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), frameon=False, fontsize=9)
    return png(figure)


def _draw(
    rates: Axes, latencies: Axes, rows: Sequence[PerformanceRow], points: Sequence[SweepPoint], name: str, colour: str
) -> None:
    positions = [points.index(point_of(row)) for row in rows]
    values = [float(row[THROUGHPUT]) for row in rows]
    windows = [row.get(WINDOW_RATES) or (value,) for row, value in zip(rows, values, strict=True)]
    spread = [
        [max(0.0, value - min(seen)) for value, seen in zip(values, windows, strict=True)],
        [max(0.0, max(seen) - value) for value, seen in zip(values, windows, strict=True)],
    ]
    rates.errorbar(positions, values, spread, color=colour, marker="o", capsize=3, label=name)
    p99_ms = [float(row[P99]) / US_PER_MS for row in rows]
    latencies.plot(positions, p99_ms, color=colour, marker="o", label=name)
    disturbed = [index for index, row in enumerate(rows) if row.get(DISTURBED)]
    for axes, heights in ((rates, values), (latencies, p99_ms)):
        if disturbed:
            axes.scatter(
                [positions[index] for index in disturbed], [heights[index] for index in disturbed],
                s=110, facecolors="none", edgecolors=RED, linewidths=1.8, zorder=5, label="disturbed",
            )  # fmt: skip


def _finish(axes: Axes, label: str, points: Sequence[SweepPoint], mode: EvaluationMode) -> None:
    low, high = axes.dataLim.y0, axes.dataLim.y1
    if low > 0 and high / low > _WIDE:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * high)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}" if high < 10 else "{x:,.0f}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    step = math.ceil(len(points) / _MOST_TICKS)
    axes.set_xticks(range(0, len(points), step), point_labels(points, mode)[::step], fontsize=9)
    axes.set_xlabel(_X[mode][1], fontsize=9, color=INK)
    axes.set_ylabel(label, fontsize=9)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)
