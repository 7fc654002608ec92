"""The stages of a run on a line of time, with their memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from runner.kept_run import KeptRun, KeptStage
from runner.page.charts import Chart, ChartKind, Point, Series, chart_figure
from runner.page.elements import folded, joined, paragraph, table
from runner.records import StageState

_GIB = 2**30
_PREPARATION = "preparation"
_NOTE = (
    "Stages follow one another; the time between them is not drawn. Memory is the largest proportional set size of a "
    "stage's processes together, from the deploy stage on with the server's."
)


@dataclass(frozen=True)
class _Span:
    stage: KeptStage
    start: float
    row: str

    @property
    def end(self) -> float:
        return self.start + self.stage.seconds


def stages_section(run: KeptRun) -> Markup:
    """Charts and a table of all stages; empty if none is known."""
    if not run.stages:
        return Markup("")
    spans = _spans(run)
    parts: list[Markup] = []
    if any(span.stage.seconds for span in spans):
        parts += [chart_figure(_times(spans), "stages-time"), chart_figure(_memory(spans), "stages-memory")]
    return joined([*parts, paragraph(_NOTE, "note"), folded("Every stage", table(list(map(_line, spans))))])


def _spans(run: KeptRun) -> list[_Span]:
    titles = {item.number: item.title for item in run.experiments if not item.role}
    spans, start = [], 0.0
    for stage in run.stages:
        row = _PREPARATION if stage.experiment is None else titles.get(stage.experiment, str(stage.experiment))
        spans.append(_Span(stage, start, row))
        start += stage.seconds
    return spans


def _times(spans: Sequence[_Span]) -> Chart:
    ran = [span for span in spans if span.stage.seconds]
    series = [
        Series(
            name, [Point((span.start, span.end), span.row, _text(span)) for span in ran if span.stage.name == name], at
        )
        for at, name in enumerate(dict.fromkeys(span.stage.name for span in ran))
    ]
    rows = list(dict.fromkeys(span.row for span in ran))
    return Chart("Time", ChartKind.SPANS, "seconds since the start", "", series, rows, largest_x=spans[-1].end)


def _memory(spans: Sequence[_Span]) -> Chart:
    points = [
        Point(at, span.stage.peak_memory_bytes / _GIB, _text(span))
        for span in spans
        if span.stage.seconds
        for at in (span.start, span.end)
    ]
    return Chart(
        "Peak memory", ChartKind.STEPS, "seconds since the start", "GiB", [Series("peak memory", points, 0)],
        legend=False, largest_x=spans[-1].end,
    )  # fmt: skip


def _text(span: _Span) -> list[str]:
    stage = span.stage
    state = [] if stage.state == StageState.OK else [str(stage.state)]
    return [
        f"{span.row}: {stage.name}",
        f"{stage.seconds:,.1f} s, up to {stage.peak_memory_bytes / _GIB:.2f} GiB",
        *state,
    ]


def _line(span: _Span) -> dict[str, object]:
    stage = span.stage
    return {
        "experiment": span.row,
        "stage": stage.name,
        "state": Markup('<span class="{}">{}</span>').format(_class(stage.state), stage.state),
        "seconds": f"{stage.seconds:,.1f}",
        "peak memory (GiB)": f"{stage.peak_memory_bytes / _GIB:.2f}",
        "message": stage.message,
    }


def _class(state: str) -> str:
    if state in (StageState.OK, StageState.REUSED):
        return "yes"
    return "" if state == StageState.SKIPPED else "no"
