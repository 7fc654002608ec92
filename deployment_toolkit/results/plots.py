"""Pictures of a performance report, from rows to PNG bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import StrMethodFormatter

from deployment_toolkit.results.canvas import (
    BLUE,
    CYAN,
    GREEN,
    GREY,
    GRID,
    INK,
    LINES,
    ORANGE,
    PINK,
    PURPLE,
    RED,
    SUBTITLE,
    YELLOW,
    new_figure,
    open_frame,
    png,
)
from deployment_toolkit.results.performance import (
    BATCH,
    CONCURRENCY,
    DISTURBED,
    LATENCY_PARTS,
    P99,
    SETTLED,
    THROUGHPUT,
    US_PER_MS,
    PerformanceRow,
    in_order,
)

Experiments = Mapping[str, Sequence[PerformanceRow]]

THROUGHPUT_VS_BATCH = "throughput_vs_batch.png"
LATENCY_VS_BATCH = "latency_vs_batch.png"
LATENCY_VS_CONCURRENCY = "latency_vs_concurrency.png"

_PART_COLOURS = (BLUE, CYAN, YELLOW, PURPLE, PINK, GREY, GREEN)  # in the order of LATENCY_PARTS
_UNSETTLED, _WAS_DISTURBED = "never settled", "disturbed"
_MAX_PANEL_COLUMNS = 2
_PANEL_INCHES = (7.2, 4.2)
_LEGEND_COLUMNS_PER_PANEL = 3
_LEGEND_LINE_INCHES = 0.24
_TITLE_INCHES = 0.6
_SUBTITLE_LINE_INCHES = 0.19
_SUBTITLE_CHARACTERS = 105  # limit for the width of one panel
_HEADROOM = 1.08
_MAX_TICKS = 12


def offline_plots(experiments: Experiments, provenance: str) -> dict[str, bytes]:
    """Pictures of a batch sweep by file name. ``experiments`` maps the displayed name of each experiment to its rows;
    ``provenance`` gives place and time of the measurement. Several concurrencies of one experiment are drawn
    separately."""
    if len({row[CONCURRENCY] for rows in experiments.values() for row in rows}) > 1:
        experiments = _split(experiments, CONCURRENCY, "{} requests at a time")
    latency = _panels(experiments, "Offline: latency by batch size", provenance, BATCH, "batch size, rows", _add_p99)
    return {
        THROUGHPUT_VS_BATCH: png(_throughput_figure(experiments, provenance)),
        LATENCY_VS_BATCH: png(latency),
    }


def online_plots(experiments: Experiments, provenance: str) -> dict[str, bytes]:
    """Picture of a concurrency sweep by file name; arguments as for ``offline_plots``. Several batch sizes of one
    experiment are drawn separately."""
    title = "Online: latency and throughput by concurrency"
    split = _split(experiments, BATCH, "{} rows a request")
    figure = _panels(split, title, provenance, CONCURRENCY, "concurrent requests", _add_throughput)
    return {LATENCY_VS_CONCURRENCY: png(figure)}


def _split(experiments: Experiments, column: str, suffix: str) -> dict[str, list[PerformanceRow]]:
    parts: dict[str, list[PerformanceRow]] = {}
    for name, rows in experiments.items():
        for row in in_order(rows):
            parts.setdefault(f"{name}, {suffix.format(row[column])}", []).append(row)
    return parts


def _throughput_figure(experiments: Experiments, provenance: str) -> Figure:
    figure = new_figure(_PANEL_INCHES[0] * 1, _PANEL_INCHES[1] * 1)
    axes = figure.add_subplot()
    for index, (name, rows) in enumerate(experiments.items()):
        ordered = in_order(rows)
        colour = LINES[index % len(LINES)]
        batches, rates = [row[BATCH] for row in ordered], [row[THROUGHPUT] for row in ordered]
        axes.plot(batches, rates, marker="o", color=colour, label=name)
        _mark(axes, ordered, batches, rates)
    axes.set_xlabel("batch size, rows")
    axes.set_ylabel("inferences per second")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _finish(axes)
    _arrange(figure, [axes], "Offline: throughput by batch size", provenance)
    return figure


def _panels(
    experiments: Experiments,
    title: str,
    provenance: str,
    x_column: str,
    x_label: str,
    add_line: Callable[[Axes, Sequence[PerformanceRow]], Axes],
) -> Figure:
    """Figure with a panel per experiment on common scales: stacked latency parts as bars, and a line on top."""
    columns = min(_MAX_PANEL_COLUMNS, len(experiments))
    rows_of_panels = math.ceil(len(experiments) / columns)
    figure = new_figure(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows_of_panels)
    panels: list[Axes] = []
    lines: list[Axes] = []  # the axes that hold the lines
    for index, (name, rows) in enumerate(experiments.items()):
        axes = figure.add_subplot(rows_of_panels, columns, index + 1)
        ordered = in_order(rows)
        _stack_parts(axes, ordered)
        axes.set_title(name, fontsize=10, loc="left")
        axes.set_xticks(*_ticks([row[x_column] for row in ordered]))
        axes.set_xlabel(x_label)
        axes.set_ylabel("latency, ms")
        line = add_line(axes, ordered)
        _finish(axes)
        panels.append(axes)
        lines.append(line)
    for scale in (panels, lines):
        highest = max(axes.get_ylim()[1] for axes in scale)
        for axes in scale:
            axes.set_ylim(0, highest)
    _arrange(figure, [*panels, *lines], title, provenance)
    return figure


def _stack_parts(axes: Axes, rows: Sequence[PerformanceRow]) -> None:
    bottoms = [0.0] * len(rows)
    for part, colour in zip(LATENCY_PARTS, _PART_COLOURS, strict=True):
        heights = [row[part] / US_PER_MS for row in rows]
        axes.bar(range(len(rows)), heights, bottom=bottoms, color=colour, label=part, width=0.7)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]


def _add_p99(axes: Axes, rows: Sequence[PerformanceRow]) -> Axes:
    """Adds the p99 latency on the same axis as its parts."""
    latencies_ms = [row[P99] / US_PER_MS for row in rows]
    axes.plot(range(len(rows)), latencies_ms, color=INK, marker="o", label="p99 latency")
    _mark(axes, rows, range(len(rows)), latencies_ms)
    return axes


def _add_throughput(axes: Axes, rows: Sequence[PerformanceRow]) -> Axes:
    """Adds inferences per second on a separate axis."""
    second = axes.twinx()
    rates = [row[THROUGHPUT] for row in rows]
    second.plot(range(len(rows)), rates, color=INK, marker="o", label="inferences per second (right)")
    _mark(second, rows, range(len(rows)), rates)
    second.set_ylabel("inferences per second")
    _finish(second)
    second.grid(visible=False)
    second.spines["right"].set_visible(True)
    return second


def _mark(axes: Axes, rows: Sequence[PerformanceRow], positions: Sequence[float], values: Sequence[float]) -> None:
    """Rings around the points of rows that never settled, and wider ones around those that were disturbed."""
    places = list(zip(positions, values, strict=True))
    rings = {
        (_UNSETTLED, RED, 110): [place for row, place in zip(rows, places, strict=True) if not row[SETTLED]],
        (_WAS_DISTURBED, ORANGE, 230): [place for row, place in zip(rows, places, strict=True) if row.get(DISTURBED)],
    }
    for (label, colour, size), points in rings.items():
        if points:
            x, y = zip(*points, strict=True)
            axes.scatter(x, y, s=size, facecolors="none", edgecolors=colour, linewidths=1.8, zorder=5, label=label)


def _arrange(figure: Figure, all_axes: Sequence[Axes], title: str, provenance: str) -> None:
    """Makes room above the panels for title and provenance, and below them for one legend."""
    width, panels_height = figure.get_size_inches()
    panel_columns = round(width / _PANEL_INCHES[0])
    entries = _legend_entries(all_axes)
    legend_columns = min(len(entries), _LEGEND_COLUMNS_PER_PANEL * panel_columns)
    legend_lines = math.ceil(len(entries) / legend_columns)
    subtitle = textwrap.wrap(provenance, _SUBTITLE_CHARACTERS * panel_columns)
    header = _TITLE_INCHES + _SUBTITLE_LINE_INCHES * len(subtitle)
    footer = _LEGEND_LINE_INCHES * (legend_lines + 1)
    height = panels_height + header + footer
    figure.set_size_inches(width, height)
    panels_box = (0.01, footer / height, 0.98, panels_height / height)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=panels_box))
    figure.text(0.02, 1 - 0.2 / height, title, fontsize=13, weight="bold", va="top")
    figure.text(0.02, 1 - 0.5 / height, "\n".join(subtitle), fontsize=8.5, color=SUBTITLE, va="top")
    figure.legend(
        list(entries.values()), list(entries), loc="lower center", ncols=legend_columns, frameon=False, fontsize=9
    )


def _ticks(values: Sequence[int]) -> tuple[list[int], list[str]]:
    """Positions and labels under the bars, as many as fit side by side."""
    step = math.ceil(len(values) / _MAX_TICKS)
    positions = list(range(0, len(values), step))
    return positions, [f"{values[position]:,}" for position in positions]


def _finish(axes: Axes) -> None:
    axes.set_ylim(0, axes.dataLim.y1 * _HEADROOM)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.4g}" if axes.get_ylim()[1] < 10 else "{x:,.0f}"))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)


def _legend_entries(all_axes: Sequence[Axes]) -> dict[str, Any]:
    """Legend entries, every label once, the marks of rows last."""
    entries: dict[str, Any] = {}
    for axes in all_axes:
        handles, labels = axes.get_legend_handles_labels()
        entries.update({label: handle for handle, label in zip(handles, labels, strict=True) if label not in entries})
    for mark in (_UNSETTLED, _WAS_DISTURBED):
        if mark in entries:
            entries[mark] = entries.pop(mark)
    return entries
