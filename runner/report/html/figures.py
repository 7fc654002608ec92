"""Charts of throughput and latency: by batch and concurrency, against each other, and in parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from markupsafe import Markup

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.results.disturbed import what_disturbed
from deployment_toolkit.results.performance import (
    AVERAGE,
    BATCH,
    CONCURRENCY,
    DISTURBED,
    DISTURBED_MARK,
    DISTURBED_NOTE,
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    P99,
    REFUSED,
    SETTLED,
    THROUGHPUT,
    UNSETTLED_MARK,
    UNSETTLED_NOTE,
    US_PER_MS,
    PerformanceRow,
)
from runner.kept_run import KeptExperiment, KeptRun
from runner.page.charts import Chart, ChartKind, Mark, Point, Series, chart_figure, chart_grid, colour_key
from runner.page.elements import heading, joined, paragraph

_MODES = (
    (EvaluationMode.OFFLINE, "Offline", BATCH, "batch size, rows"),
    (EvaluationMode.ONLINE, "Online", CONCURRENCY, "concurrency, requests at a time"),
)
_FRONTIER_COLOUR = 11
_MODE_NOTES = {
    EvaluationMode.OFFLINE: "Offline: inputs through shared memory, one request at a time, each a batch.",
    EvaluationMode.ONLINE: "Online: many clients over the network's protocol, each with one request at a time; the "
    "server joins requests into batches.",
}  # fmt: skip


def marks_of(row: PerformanceRow) -> str:
    """Signs behind the figures of a row that are to be doubted."""
    return (UNSETTLED_MARK if not row[SETTLED] else "") + (DISTURBED_MARK if row.get(DISTURBED) else "")


def doubts(rows: Sequence[PerformanceRow]) -> list[str]:
    """What the signs in tables of these rows mean."""
    notes = [UNSETTLED_NOTE] if not all(row[SETTLED] for row in rows) else []
    return notes + ([DISTURBED_NOTE] if any(row.get(DISTURBED) for row in rows) else [])


def sweeps_section(run: KeptRun) -> Markup:
    """Throughput and latency of each sweep; empty if none was measured."""
    parts: list[Markup] = []
    for mode, name, column, title in _MODES:
        experiments = _measured(run, mode)
        if not experiments:
            continue
        charts = [
            _sweep(f"{name}: throughput", experiments, mode, (column, title), _rate, "inferences per second"),
            _sweep(f"{name}: p99 latency", experiments, mode, (column, title), _p99_ms, "p99 latency, ms"),
        ]
        figures = [chart_figure(chart, f"{mode}-{kind}") for chart, kind in zip(charts, ("rate", "p99"), strict=True)]
        parts += [paragraph(_MODE_NOTES[mode], "note"), chart_grid(figures)]
        parts += [paragraph(note, "note") for note in doubts(_rows(experiments, mode))]
    return joined(parts)


def frontier_section(run: KeptRun) -> Markup:
    """Throughput against p99 of all measured points; empty if none was measured."""
    figures = []
    for mode, name, _, _ in reversed(_MODES):
        experiments = _measured(run, mode)
        if experiments:
            figures.append(chart_figure(_frontier(name, experiments, mode), f"{mode}-frontier"))
    if not figures:
        return Markup("")
    note = (
        "Higher and farther to the left is better. The pale band joins the points than which no other has both more "
        "throughput and a lower p99."
    )
    return joined([chart_grid(figures), paragraph(note, "note")])


def parts_section(run: KeptRun) -> Markup:
    """Where the time of a request goes, a chart for each experiment and sweep; empty if none was measured."""
    key = colour_key([(part, number) for number, part in enumerate(LATENCY_PARTS)])
    body: list[Markup] = []
    for mode, name, column, title in _MODES:
        charts = [
            chart_figure(_stacked(experiment, mode, column, title), f"{mode}-parts-{index}")
            for index, experiment in _measured(run, mode)
        ]
        if charts:
            body += [heading(name), chart_grid(charts, small=True)]
    if not body:
        return Markup("")
    note = "The average latency is the sum of its parts. Each picture has a scale of its own."
    return joined([paragraph(note, "note"), key, *body])


def _measured(run: KeptRun, mode: EvaluationMode) -> list[tuple[int, KeptExperiment]]:
    """Experiments with rows of a sweep, each with its place in the run, which is its colour."""
    return [(index, item) for index, item in enumerate(run.experiments) if item.performance(mode)]


def _rows(experiments: Sequence[tuple[int, KeptExperiment]], mode: EvaluationMode) -> list[PerformanceRow]:
    return [row for _, item in experiments for row in item.performance(mode)]


def _rate(row: PerformanceRow) -> float:
    return float(row[THROUGHPUT])


def _p99_ms(row: PerformanceRow) -> float:
    return float(row[P99]) / US_PER_MS


def _sweep(
    title: str,
    experiments: Sequence[tuple[int, KeptExperiment]],
    mode: EvaluationMode,
    x: tuple[str, str],
    value: Callable[[PerformanceRow], float],
    y_title: str,
) -> Chart:
    (column, x_title), rows = x, _rows(experiments, mode)
    series = [
        Series(item.title, [_point(float(row[column]), value(row), row, rows) for row in item.performance(mode)], index)
        for index, item in experiments
    ]
    return Chart(title, ChartKind.LINE, x_title, y_title, series, rows=_table(experiments, mode, value is _rate))


def _point(x: float, y: float, row: PerformanceRow, among: Sequence[PerformanceRow]) -> Point:
    ms = {name: f"{float(row[name]) / US_PER_MS:,.2f} ms" for name in (*LATENCY_STATISTICS, "Server Queue")}
    text = [
        f"{row[BATCH]:,} rows a request, {row[CONCURRENCY]:,} at a time",
        f"{float(row[THROUGHPUT]):,.0f} inferences/s",
        f"p50 {ms['p50 latency']}, p99 {ms[P99]}",
        f"average {ms[AVERAGE]}, of it in the queue {ms['Server Queue']}",
    ]
    if row.get(REFUSED):
        text.append(f"{float(row[REFUSED]):,.0f} inferences/s refused")
    if not row[SETTLED]:
        text.append(f"{UNSETTLED_MARK} never settled")
    if row.get(DISTURBED):
        text.append(f"{DISTURBED_MARK} disturbed: {what_disturbed(row, among)}")
    return Point(x, y, text, Mark.DOUBTFUL if marks_of(row) else Mark.NONE)


def _table(
    experiments: Sequence[tuple[int, KeptExperiment]], mode: EvaluationMode, rates: bool
) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for _, item in experiments:
        for row in item.performance(mode):
            line: dict[str, object] = {"experiment": item.title, "batch": row[BATCH], "concurrency": row[CONCURRENCY]}
            if rates:
                line["inferences/s"] = f"{float(row[THROUGHPUT]):,.2f} {marks_of(row)}".rstrip()
                line["refused/s"] = f"{float(row.get(REFUSED) or 0.0):,.2f}"
            else:
                line |= {f"{name} (ms)": f"{float(row[name]) / US_PER_MS:,.2f}" for name in LATENCY_STATISTICS}
            lines.append(line)
    if rates and not any(row.get(REFUSED) for _, item in experiments for row in item.performance(mode)):
        for line in lines:
            del line["refused/s"]
    return lines


def _frontier(name: str, experiments: Sequence[tuple[int, KeptExperiment]], mode: EvaluationMode) -> Chart:
    rows = _rows(experiments, mode)
    series = [
        Series(item.title, [_point(_p99_ms(row), _rate(row), row, rows) for row in item.performance(mode)], index)
        for index, item in experiments
    ]
    best = [Point(_p99_ms(row), _rate(row), ("frontier",)) for row in frontier_of(rows)]
    line = Series("frontier", best, _FRONTIER_COLOUR, band=True)
    return Chart(
        f"{name}: throughput against p99", ChartKind.LINE, "p99 latency, ms", "inferences per second",
        [*series, line], logarithmic="xy",
    )  # fmt: skip


def frontier_of(rows: Sequence[PerformanceRow]) -> list[PerformanceRow]:
    """Rows than which no other has both more throughput and a lower p99, ascending."""
    found: list[PerformanceRow] = []
    for row in sorted(rows, key=lambda row: (_p99_ms(row), -_rate(row))):
        if not found or _rate(row) > _rate(found[-1]):
            found.append(row)
    return found


def _stacked(experiment: KeptExperiment, mode: EvaluationMode, column: str, x_title: str) -> Chart:
    rows = experiment.performance(mode)
    several = len({row[BATCH] for row in rows}) > 1 and column != BATCH
    names = [f"{row[column]:,}" + (f" × {row[BATCH]}" if several else "") for row in rows]
    series = [
        Series(part, [_part(part, name, row) for name, row in zip(names, rows, strict=True)], number)
        for number, part in enumerate(LATENCY_PARTS)
    ]
    return Chart(
        experiment.title, ChartKind.STACK, x_title, "latency, ms", series, names, legend=False,
        rows=list(_part_lines(column, names, rows)),
    )  # fmt: skip


def _part(part: str, name: str, row: PerformanceRow) -> Point:
    value, average = float(row[part]), float(row[AVERAGE])
    share = f"{value / average:.0%} of {average / US_PER_MS:,.2f} ms" if average else ""
    return Point(name, value / US_PER_MS, (f"{part}: {value / US_PER_MS:,.3f} ms", share))


def _part_lines(column: str, names: Sequence[str], rows: Sequence[PerformanceRow]) -> Iterator[Mapping[str, object]]:
    for name, row in zip(names, rows, strict=True):
        yield {
            column.lower(): name,
            **{f"{part} (ms)": f"{float(row[part]) / US_PER_MS:,.3f}" for part in (*LATENCY_PARTS, AVERAGE)},
        }
