"""Charts of a page, described as plain data; ``assets/page.js`` draws them with the charting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from markupsafe import Markup

from deployment_toolkit.core import Mnemonic
from runner.page.elements import data_block, folded, paragraph, table

COLOURS = 12  # in the style sheet


class ChartKind(Mnemonic):
    """How the points of a series are drawn."""

    LINE = "line"
    STEPS = "steps"  # a filled line that keeps each value until the next point
    BARS = "bars"  # one beside the other
    STACK = "stack"  # one on the other
    SPANS = "spans"  # lying bars from x[0] to x[1]


class Mark(Mnemonic):
    """What is special about a point; the legend of the section explains it."""

    NONE = ""
    DOUBTFUL = "doubtful"  # a red ring
    CHOSEN = "chosen"  # a star


@dataclass(frozen=True)
class Point:
    """A point; ``text`` are the lines that show when the pointer is over it. In charts with named places, ``x`` is a
    place's name, in ``SPANS`` the pair of its ends, and ``y`` a name."""

    x: float | str | tuple[float, float]
    y: float | str
    text: Sequence[str] = ()
    mark: Mark = Mark.NONE


@dataclass(frozen=True)
class Series:
    """Points that belong together. Series of the same ``colour`` look alike in all charts of a page. A ``band`` is a
    broad, pale line beneath the others, without points."""

    name: str
    points: Sequence[Point]
    colour: int
    band: bool = False


@dataclass(frozen=True)
class Limit:
    """A line at a value of the y axis, or of the x axis."""

    value: float
    label: str
    axis: str = "y"


@dataclass(frozen=True)
class Chart:
    """A chart with a table of its numbers. ``names`` are the places of an axis with names, in order; ``rows`` is the
    table; ``logarithmic`` says which axes are, and readers can change that of the y axis."""

    title: str
    kind: ChartKind
    x_title: str
    y_title: str
    series: Sequence[Series]
    names: Sequence[str] = ()
    limits: Sequence[Limit] = ()
    logarithmic: str = ""
    largest_x: float | None = None
    legend: bool = True
    note: str = ""
    rows: Sequence[Mapping[str, object]] = field(default_factory=tuple)


def chart_figure(chart: Chart, identifier: str) -> Markup:
    """The chart as a part of a page; ``identifier`` is its own on that page."""
    told = {name: value for name, value in asdict(chart).items() if name not in ("rows", "note")}
    described = f"{chart.title}: {chart.y_title} by {chart.x_title}, of {', '.join(s.name for s in chart.series)}"
    return Markup(
        '<figure class="chart {}" id="{}"><figcaption>{}</figcaption>\n'
        '<div class="plot"><canvas role="img" aria-label="{}"></canvas></div>\n{}{}{}</figure>'
    ).format(
        chart.kind,
        identifier,
        chart.title,
        described,
        data_block(f"{identifier}-data", told),
        paragraph(chart.note, "note") if chart.note else "",
        folded("Numbers", table(chart.rows)) if chart.rows else "",
    )


def chart_grid(figures: Sequence[Markup], *, small: bool = False) -> Markup:
    """Charts side by side, as many as the screen has room for."""
    return Markup('<div class="charts {}">{}</div>').format("small" if small else "", Markup("\n").join(figures))


def colour_key(names: Sequence[tuple[str, int]]) -> Markup:
    """A legend for several charts: names with the colours of their series."""
    entries = (Markup('<li><i class="c{}"></i>{}</li>').format(colour % COLOURS, name) for name, colour in names)
    return Markup('<ul class="key">{}</ul>').format(Markup("").join(entries))
