"""Charts of capacity: latency against the offered rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from deployment_toolkit.results.capacity import (
    ANSWERED,
    BUDGET,
    CAPACITY,
    CLIENT_CORES,
    LATE_SENDS,
    OFFERED,
    REQUESTS,
    ROWS,
    SERVER_CORES,
    VALID,
    CapacityRow,
    client_was_late,
    in_order,
)
from deployment_toolkit.results.performance import (
    DISTURBED,
    DISTURBED_MARK,
    LATENCY_STATISTICS,
    P99,
    THROUGHPUT,
    US_PER_MS,
)
from runner.kept_run import KeptExperiment, KeptRun
from runner.page.charts import Chart, ChartKind, Limit, Mark, Point, Series, chart_figure, chart_grid
from runner.page.elements import folded, joined, paragraph, table
from runner.report.html.offers import unfit

P50 = LATENCY_STATISTICS[0]
_NOTE = (
    "Requests come at random (Poisson) at the offered rate, whatever the server does; a latency counts from when the "
    "request was due. The capacity, a star, is the highest rate whose p99 LoadGen found within the budget, a dashed "
    "line. A red ring: the client was late with its requests, so that it may have been the limit."
)


def capacity_section(run: KeptRun) -> Markup:
    """p99 against the offered rate, a chart for each size of requests; empty if capacity was not measured."""
    measured = [(index, item) for index, item in enumerate(run.experiments) if item.capacity]
    if not measured:
        return Markup("")
    sizes = sorted({row[ROWS] for _, item in measured for row in item.capacity})
    figures = [chart_figure(_curves(measured, rows), f"capacity-{rows}") for rows in sizes]
    lines = [line for _, item in measured for line in _lines(item)]
    return joined(
        [paragraph(_NOTE, "note"), chart_grid(figures), *_misses(measured), folded("Every run", table(lines))]
    )


def _curves(measured: Sequence[tuple[int, KeptExperiment]], rows: int) -> Chart:
    budgets = sorted({row[BUDGET] for _, item in measured for row in item.capacity if row[ROWS] == rows})
    series = []
    for index, item in measured:
        points = [_point(list(same)) for same in _by_rate(item.capacity, rows)]
        if points:
            series.append(Series(item.title, points, index))
    limits = [Limit(budget / US_PER_MS, f"{budget / US_PER_MS:g} ms") for budget in budgets]
    return Chart(
        f"Requests of {rows} row{'s' if rows > 1 else ''}: p99 against the offered rate", ChartKind.LINE,
        "offered requests per second", "p99 latency, ms", series, limits=limits, logarithmic="y",
    )  # fmt: skip


def _by_rate(found: Sequence[CapacityRow], rows: int) -> Iterator[Sequence[CapacityRow]]:
    """The runs for requests of so many rows, those of the same rate together: one curve serves all budgets."""
    groups: dict[float, list[CapacityRow]] = {}
    for row in in_order(found):
        if row[ROWS] == rows:
            groups.setdefault(row[OFFERED], []).append(row)
    yield from groups.values()


def _point(same: Sequence[CapacityRow]) -> Point:
    row = max(same, key=lambda row: float(row[P99]))
    held = [f"{item[BUDGET] / US_PER_MS:g}" for item in same if item[CAPACITY]]
    text = [
        f"offered {row[OFFERED]:,.0f} requests/s, answered {row[ANSWERED]:,.0f}",
        f"{row[THROUGHPUT]:,.0f} inferences/s",
        f"p50 {row[P50] / US_PER_MS:,.2f} ms, p99 {row[P99] / US_PER_MS:,.2f} ms of {row[REQUESTS]:,} requests",
        *_cores(row),
    ]
    if held:
        text.append(f"★ capacity at p99 ≤ {' and '.join(held)} ms")
    if client_was_late(row):
        text.append(f"{row[LATE_SENDS]:.1%} of the requests were sent late")
    mark = Mark.CHOSEN if held else Mark.DOUBTFUL if client_was_late(row) else Mark.NONE
    return Point(float(row[OFFERED]), float(row[P99]) / US_PER_MS, text, mark)


def _cores(row: CapacityRow) -> list[str]:
    known = [(name, row.get(name)) for name in (CLIENT_CORES, SERVER_CORES)]
    told = [f"{name.split()[0].lower()} {cores:.2f}" for name, cores in known if cores is not None]
    return [f"cores used: {', '.join(told)}"] if told else []


def _misses(measured: Sequence[tuple[int, KeptExperiment]]) -> Iterator[Markup]:
    for _, item in measured:
        missed = unfit(item.capacity)
        if missed:
            told = ", ".join(f"{rows} rows within {budget_ms:g} ms" for rows, budget_ms in missed)
            yield paragraph(f"{item.title}: no rate holds {told}.")


def _lines(item: KeptExperiment) -> Iterator[Mapping[str, object]]:
    for row in in_order(item.capacity):
        yield {
            "experiment": item.title,
            "rows": row[ROWS],
            "budget (ms)": f"{row[BUDGET] / US_PER_MS:g}",
            "offered requests/s": f"{row[OFFERED]:,.1f}",
            "requests/s": f"{row[ANSWERED]:,.1f}",
            "inferences/s": f"{row[THROUGHPUT]:,.0f}",
            "p50 (ms)": f"{row[P50] / US_PER_MS:,.2f}",
            "p99 (ms)": f"{row[P99] / US_PER_MS:,.2f}",
            "requests": f"{row[REQUESTS]:,}",
            "late sends": f"{row[LATE_SENDS]:.2%}",
            "LoadGen": "valid" if row[VALID] else "invalid",
            "disturbed": DISTURBED_MARK if row.get(DISTURBED) else "",
            "capacity": "★" if row[CAPACITY] else "",
        }
