"""Picture of a capacity measurement: latency against the offered rate, from rows to PNG bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator, StrMethodFormatter

from deployment_toolkit.results.canvas import GRID, INK, LINES, RED, SUBTITLE, new_figure, open_frame, png
from deployment_toolkit.results.capacity import (
    BUDGET,
    OFFERED,
    ROWS,
    VALID,
    CapacityRow,
    capacities,
    client_was_late,
    in_order,
)
from deployment_toolkit.results.performance import LATENCY_STATISTICS, P99, US_PER_MS

CAPACITY_PLOT = "capacity.png"

_P50 = LATENCY_STATISTICS[0]
_MARKERS = ("o", "s", "^", "D", "v", "P")
_PANEL_INCHES = (7.6, 5.2)
_MAX_PANEL_COLUMNS = 2
_HEAD_INCHES, _LEGEND_LINE_INCHES = 0.85, 0.24
_LEGEND_COLUMNS_PER_PANEL = 3
_SUBTITLE_CHARACTERS = 110  # limit for the width of one panel
_WORST_SHOWN = 10.0  # times the largest budget: what is far beyond saturation would press the rest together
_P50_STYLE: dict[str, Any] = {"linestyle": ":", "linewidth": 1.3}
_BUDGET, _HOLDS, _LATE = "p99 budget", "the rate that holds", "the client sent late"
_INVALID = "within the budget, but LoadGen calls the run invalid"
_EDGE = 1.3  # room at the edges of a logarithmic axis


def capacity_plots(experiments: Mapping[str, Sequence[CapacityRow]], provenance: str) -> dict[str, bytes]:
    """Picture by file name; arguments as for ``capacity_figure``."""
    return {CAPACITY_PLOT: png(capacity_figure(experiments, provenance))}


def capacity_figure(experiments: Mapping[str, Sequence[CapacityRow]], provenance: str) -> Figure:
    """A panel for each number of rows in a request, with p50 and p99 of every experiment against
    the offered rate, the latency budgets, and the rate that holds for each. ``experiments`` maps the displayed name of
    each experiment to its rows, at least one; ``provenance`` gives place and time of the measurement."""
    sizes = sorted({int(row[ROWS]) for rows in experiments.values() for row in rows})
    columns = min(_MAX_PANEL_COLUMNS, len(sizes))
    lines = math.ceil(len(sizes) / columns)
    figure = new_figure(_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * lines)
    panels = [figure.add_subplot(lines, columns, number) for number in range(1, len(sizes) + 1)]
    for axes, size in zip(panels, sizes, strict=True):
        _draw_panel(axes, experiments, size)
    _arrange(figure, panels, columns, provenance)
    return figure


def _draw_panel(axes: Axes, experiments: Mapping[str, Sequence[CapacityRow]], size: int) -> None:
    shown: list[float] = []
    budgets_ms: set[float] = set()
    for index, (name, measured) in enumerate(experiments.items()):
        rows = [row for row in in_order(measured) if row[ROWS] == size]
        if rows:
            _draw_experiment(axes, rows, name, index)
            shown += [row[column] / US_PER_MS for row in rows for column in (_P50, P99)]
            budgets_ms |= {row[BUDGET] / US_PER_MS for row in rows}
    for budget_ms in sorted(budgets_ms):
        axes.axhline(budget_ms, color=RED, linestyle="--", linewidth=1.0, label=_BUDGET, zorder=1)
        axes.annotate(
            f"{budget_ms:g} ms", (0.004, budget_ms), xycoords=("axes fraction", "data"),
            color=RED, fontsize=8, xytext=(0, 2), textcoords="offset points",
        )  # fmt: skip
    axes.set_yscale("log")
    highest = max(*budgets_ms, min(max(shown), _WORST_SHOWN * max(budgets_ms)))
    axes.set_ylim(min(*budgets_ms, *shown) / _EDGE, highest * _EDGE)
    axes.set_xlim(left=0)
    axes.set_title("requests of 1 row" if size == 1 else f"requests of {size:,} rows", fontsize=10, loc="left")
    axes.set_xlabel("offered inferences per second" if size > 1 else "offered inferences (requests) per second")
    axes.set_ylabel("latency from the time a request was due, ms")
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)


def _draw_experiment(axes: Axes, rows: Sequence[CapacityRow], name: str, index: int) -> None:
    colour, marker = LINES[index % len(LINES)], _MARKERS[index % len(_MARKERS)]
    rates = [_rate(row) for row in rows]
    p99_ms, p50_ms = ([row[column] / US_PER_MS for row in rows] for column in (P99, _P50))
    axes.plot(rates, p99_ms, color=colour, marker=marker, markersize=5, label=name, zorder=3)
    axes.plot(rates, p50_ms, color=colour, zorder=2, **_P50_STYLE)
    held = capacities(rows).values()
    _mark(axes, held, _HOLDS, colour, marker="*", size=170)
    suspect = [row for row in rows if not row[VALID] and row[P99] <= row[BUDGET]]
    _mark(axes, suspect, _INVALID, "none", marker="X", size=90)
    _mark(axes, [row for row in rows if client_was_late(row)], _LATE, "none", marker="o", size=130)


def _mark(axes: Axes, rows: Iterable[CapacityRow], label: str, colour: str, *, marker: str, size: int) -> None:
    """Marks the p99 of rows; without a colour by a red outline."""
    points = [(_rate(row), row[P99] / US_PER_MS) for row in rows]
    if points:
        x, y = zip(*points, strict=True)
        edge = RED if colour == "none" else INK
        axes.scatter(x, y, s=size, marker=marker, facecolors=colour, edgecolors=edge, label=label, zorder=5)


def _rate(row: CapacityRow) -> float:
    """Offered inferences per second."""
    return float(row[OFFERED]) * float(row[ROWS])


def _arrange(figure: Figure, panels: Sequence[Axes], columns: int, provenance: str) -> None:
    """Makes room above the panels for title and provenance, and below them for one legend."""
    entries = _legend_entries(panels)
    per_line = min(len(entries), _LEGEND_COLUMNS_PER_PANEL * columns)
    subtitle = textwrap.wrap(provenance, _SUBTITLE_CHARACTERS * columns)
    width, height = figure.get_size_inches()
    head = _HEAD_INCHES + 0.19 * (len(subtitle) - 1)
    foot = _LEGEND_LINE_INCHES * (math.ceil(len(entries) / per_line) + 1)
    total = height + head + foot
    figure.set_size_inches(width, total)
    figure.set_layout_engine(ConstrainedLayoutEngine(rect=(0.01, foot / total, 0.98, height / total)))
    title = "Capacity: latency by offered rate, requests at random times"
    figure.text(0.02, 1 - 0.2 / total, title, fontsize=13, weight="bold", va="top")
    figure.text(0.02, 1 - 0.5 / total, "\n".join(subtitle), fontsize=8.5, color=SUBTITLE, va="top")
    figure.legend(
        list(entries.values()), list(entries), loc="lower center", ncols=per_line, frameon=False, fontsize=8.5
    )


def _legend_entries(panels: Sequence[Axes]) -> dict[str, Any]:
    """Legend entries, every label once: the experiments, then the kinds of line, then the marks."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    marks = {label: entries.pop(label) for label in (_BUDGET, _HOLDS, _INVALID, _LATE) if label in entries}
    if _HOLDS in marks:  # of no experiment's colour
        marks[_HOLDS] = Line2D([], [], marker="*", markersize=13, color="none", markeredgecolor=INK)
    lines = {"p99": Line2D([], [], color=INK), "p50": Line2D([], [], color=INK, **_P50_STYLE)}
    return entries | lines | marks
