"""A comparison as one page of HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.results.capacity import CapacityKey, CapacityRow, capacities
from deployment_toolkit.results.performance import (
    DISTURBED,
    P99,
    SETTLED,
    THROUGHPUT,
    US_PER_MS,
    WINDOW_RATES,
    PerformanceRow,
)
from runner.compare.alignment import Together
from runner.compare.judgement import Judgement
from runner.compare.lines import Line, LineVerdict
from runner.compare.points import point_labels, point_of
from runner.compare.tables import percentage
from runner.page.charts import Chart, ChartKind, Limit, Mark, Point, Series, chart_figure, chart_grid, colour_key
from runner.page.document import Section, html_page
from runner.page.elements import folded, heading, items, joined, paragraph, table

HTML = "comparison.html"
_SWEEPS = (
    (EvaluationMode.OFFLINE, "Offline", "batch size, rows"),
    (EvaluationMode.ONLINE, "Online", "concurrent requests"),
)
_COLOURS = {LineVerdict.BETTER: 2, LineVerdict.WORSE: 1, LineVerdict.EQUAL: 8}  # green, red and grey
_MOST_LISTED = 6
_RINGS = "A red ring: the measurement was disturbed, or never settled."
_BARS = (
    "A bar is the interval of 95 % for the difference of throughput to the first run. Where it holds 0, both runs "
    "can't be told apart."
)
Rows = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Parts:
    """What the page shows, as the text of the comparison has it too: tables as rows, ``notes`` as paragraphs."""

    names: Sequence[str]
    in_words: Sequence[str]
    runs: Rows
    differences: Rows
    counts: Rows
    peaks: Rows
    correctness: Rows
    missing: Sequence[str]
    cells: Rows  # of the CSV
    reading: str


def comparison_page(
    parts: Parts, together: Sequence[Together], lines: Sequence[Line], judgement: Judgement | None
) -> str:
    """Text of the page."""
    sections = [
        ("What differs beside the figures", table(parts.differences) or paragraph("Nothing.")),
        ("In short", joined([table(parts.counts) or paragraph("The runs have no point in common."), _reading(parts)])),
        ("Differences of throughput", _differences(lines, parts.names)),
        ("Throughput and p99", _sweeps(together, parts.names)),
        ("Capacity", _capacity(together, parts.names)),
        ("Peaks, whatever the point", table(parts.peaks)),
        ("Correctness", table(parts.correctness)),
        ("Not in every run", items(parts.missing) if parts.missing else Markup("")),
        ("Every figure", folded(f"{len(parts.cells)} figures", table(parts.cells)) if parts.cells else Markup("")),
    ]
    runs = [{name: text.strip("`") for name, text in run.items()} for run in parts.runs]
    head = joined([*_verdict(judgement), *map(paragraph, parts.in_words), table(runs)])
    shown = [Section(title, body) for title, body in sections if body]
    title = f"{', '.join(parts.names[1:])} against {parts.names[0]}"
    return html_page(title, shown, head=head, data={"runs": parts.names, "figures": parts.cells})


def _verdict(judgement: Judgement | None) -> list[Markup]:
    if judgement is None:
        return []
    kind, sign = ("bad", "✗") if judgement.told else ("good", "✓") if judgement.judged else ("", "?")
    told = Markup('<p class="verdict {}">{} {}</p>').format(kind, sign, judgement.sentence)
    if len(judgement.told) <= _MOST_LISTED:
        return [told, *([items(judgement.told)] if judgement.told else [])]
    return [told, folded(f"What got worse: {len(judgement.told)} figures", items(judgement.told))]


def _reading(parts: Parts) -> Markup:
    return folded("How to read a difference", paragraph(parts.reading.replace("*", "").replace("`", "")))


def _differences(lines: Sequence[Line], names: Sequence[str]) -> Markup:
    """A chart for each run with the intervals of its throughput; empty if there is no interval."""
    figures = []
    for index, name in enumerate(names[1:], 1):
        known = [line for line in lines if line.run == name and line.is_rate and line.interval]
        if known:
            figures.append(chart_figure(_intervals(known, name, names[0]), f"differences-{index}"))
    return joined([*figures, paragraph(_BARS, "note")]) if figures else Markup("")


def _intervals(lines: Sequence[Line], name: str, first: str) -> Chart:
    places = [line.place for line in lines]
    series = []
    for verdict, colour in _COLOURS.items():
        points = [
            Point(_ends(line), place, [percentage(line.ratio), *line.notes], _mark(bool(line.notes)))
            for line, place in zip(lines, places, strict=True)
            if line.verdict is verdict
        ]
        if points:
            series.append(Series(str(verdict), points, colour))
    rows = [
        {"figure": place, "difference": percentage(line.ratio), "verdict": str(line.verdict)}
        for line, place in zip(lines, places, strict=True)
    ]
    title = f"{name} against {first}: throughput"
    limit = Limit(0.0, "equal", axis="x")
    return Chart(title, ChartKind.SPANS, "difference, %", "", series, names=places, limits=[limit], rows=rows)


def _ends(line: Line) -> tuple[float, float]:
    assert line.interval is not None, "only lines with an interval are drawn"
    return _percent(line.interval.low), _percent(line.interval.high)


def _percent(ratio: float) -> float:
    return round(100 * (ratio - 1), 2)


def _mark(doubtful: bool) -> Mark:
    return Mark.DOUBTFUL if doubtful else Mark.NONE


def _sweeps(together: Sequence[Together], names: Sequence[str]) -> Markup:
    """Charts of the throughput and p99 of every experiment that two runs have; empty if there is none."""
    body: list[Markup] = []
    for mode, title, x_title in _SWEEPS:
        figures: list[Markup] = []
        for index, item in enumerate(together):
            sides = [() if side is None else side.performance(mode) for side in item.sides]
            if sum(map(bool, sides)) > 1:
                for kind, y_title, value in _VALUES:
                    chart = _chart(f"{item.title}: {y_title}", sides, names, mode, (x_title, y_title), value)
                    figures.append(chart_figure(chart, f"{mode}-{kind}-{index}"))
        if figures:
            body += [heading(title), chart_grid(figures)]
    key = colour_key([(name, index) for index, name in enumerate(names)])
    return joined([key, *body, paragraph(_RINGS, "note")]) if body else Markup("")


def _rate(row: PerformanceRow) -> float:
    return float(row[THROUGHPUT])


def _p99_ms(row: PerformanceRow) -> float:
    return float(row[P99]) / US_PER_MS


_VALUES: tuple[tuple[str, str, Callable[[PerformanceRow], float]], ...] = (
    ("rate", "inferences per second", _rate),
    ("p99", "p99 latency, ms", _p99_ms),
)


def _chart(
    title: str,
    sides: Sequence[Sequence[PerformanceRow]],
    names: Sequence[str],
    mode: EvaluationMode,
    axes: tuple[str, str],
    value: Callable[[PerformanceRow], float],
) -> Chart:
    points = sorted({point_of(row) for side in sides for row in side})
    places = dict(zip(points, point_labels(points, mode), strict=True))
    series = [
        Series(name, [_told(row, places[point_of(row)], value(row)) for row in side], index)
        for index, (name, side) in enumerate(zip(names, sides, strict=True))
        if side
    ]
    found = [{point_of(row): f"{value(row):,.2f}" for row in side} for side in sides]
    rows = [
        {axes[0]: place, **{name: side.get(point, "") for name, side in zip(names, found, strict=True)}}
        for point, place in places.items()
    ]
    return Chart(title, ChartKind.LINE, *axes, series, names=list(places.values()), legend=False, rows=rows)


def _told(row: PerformanceRow, place: str, value: float) -> Point:
    windows = row.get(WINDOW_RATES) or ()
    text = [f"{_rate(row):,.0f} inferences/s, p99 {_p99_ms(row):,.2f} ms"]
    text += [f"windows: {', '.join(f'{rate:,.0f}' for rate in windows)}"] if windows else []
    return Point(place, value, text, _mark(not row[SETTLED] or bool(row.get(DISTURBED))))


def _capacity(together: Sequence[Together], names: Sequence[str]) -> Markup:
    """A chart for each pair of rows and budget with the rates that hold; empty if fewer than two runs have any."""
    held = {
        item.title: [{} if side is None else capacities(side.capacity) for side in item.sides]
        for item in together
        if sum(bool(side is not None and side.capacity) for side in item.sides) > 1
    }
    keys = sorted({key for sides in held.values() for side in sides for key in side})
    return chart_grid([_bars(key, held, names) for key in keys]) if keys else Markup("")


def _bars(
    key: CapacityKey, held: Mapping[str, Sequence[Mapping[CapacityKey, CapacityRow]]], names: Sequence[str]
) -> Markup:
    """Chart of the rates that hold one budget, 0 where none does."""
    rows, budget_us = key
    rates = {
        name: [float(sides[index][key][THROUGHPUT]) if key in sides[index] else 0.0 for sides in held.values()]
        for index, name in enumerate(names)
    }
    series = [
        Series(name, [Point(place, rate) for place, rate in zip(held, side, strict=True)], index)
        for index, (name, side) in enumerate(rates.items())
    ]
    shown = [
        {"experiment": place, **{name: f"{side[index]:,.0f}" for name, side in rates.items()}}
        for index, place in enumerate(held)
    ]
    title = f"{rows} rows a request, p99 within {budget_us / US_PER_MS:g} ms"
    chart = Chart(title, ChartKind.BARS, "", "inferences per second", series, names=list(held), rows=shown)
    return chart_figure(chart, f"capacity-{rows}-{budget_us:.0f}")
