"""The served answers beside the framework's: metrics, differences, the rows that differ most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from deployment_toolkit.errors import DataError
from runner.kept_run import DIFFERENCE, KeptExperiment, KeptRun, metrics_of
from runner.page.charts import Chart, ChartKind, Point, Series, chart_figure, chart_grid
from runner.page.elements import folded, joined, paragraph, table
from runner.report.html.offers import PASSED
from runner.report.html.titles import metric_title

_NOTE = (
    "The framework is the checkpoint in TensorFlow. The deployed model is asked over each protocol one request at a "
    "time (sync) and many at once (async), in requests of many sizes. The largest difference is that of any row's "
    "answer."
)


def correctness_section(run: KeptRun) -> Markup:
    """Tables and charts of how far the served answers are from the framework's; empty if none was compared."""
    compared = [item for item in run.experiments if item.correctness]
    if not compared:
        return Markup("")
    short = [_summary(run, item) for item in compared]
    lines = [_line(run, item.title, row) for item in compared for row in item.correctness]
    every = folded("Every protocol", table(lines))
    return joined([table(short), paragraph(_NOTE, "note"), every, *_worst(compared), chart_grid(_charts(run))])


def _worst(compared: Sequence[KeptExperiment]) -> Iterator[Markup]:
    """The rows that differ most, of each experiment and protocol."""
    lines = [
        {
            "experiment": item.title,
            "answers of": row["name"],
            "row": row.get("row"),
            "id": row.get("id"),
            "framework": row.get("reference"),
            "served": row.get("answer"),
            "difference": row.get("difference"),
            "rows of its request": row.get("rows_of_its_request"),
        }
        for item in compared
        for row in item.worst_rows
    ]
    if lines:
        yield folded("The rows that differ most", table(lines))


def require_figures(run: KeptRun) -> None:
    """Raises DataError if a table of correctness lacks a column or holds something else than numbers."""
    for item in run.experiments:
        for row in item.correctness:
            try:
                _ = row["name"], row["tolerance"], row["passed"], row["rows_out_of_tolerance"], int(row["rows"])
                for column in ("max_abs_diff", *(c for m in metrics_of(row) for c in (m, f"{m}{DIFFERENCE}"))):
                    _number(row[column])
            except (KeyError, ValueError) as error:
                raise DataError(
                    f"{run.folder}: the table of correctness of experiment {item.number} is damaged ({error!r}): give "
                    "another run"
                ) from error


def _summary(run: KeptRun, item: KeptExperiment) -> dict[str, object]:
    """The framework's metrics beside those of the protocol that is farthest from them."""
    reference, *served = item.correctness
    line: dict[str, object] = {"experiment": item.title, "rows": f"{int(reference['rows']):,}"}
    for metric in metrics_of(reference):
        name = metric_title(run, metric)
        farthest = max(served, key=lambda row: abs(_number(row[f"{metric}{DIFFERENCE}"])), default=None)
        line[f"{name} framework"] = f"{_number(reference[metric]):.6f}"
        line[f"{name} served"] = "" if farthest is None else f"{_number(farthest[metric]):.6f}"
    known = [_number(row["max_abs_diff"]) for row in served if row["max_abs_diff"]]
    line["largest difference"] = f"{max(known):.2g}" if known else "not comparable"
    line["rows out of tolerance"] = ", ".join(dict.fromkeys(row["rows_out_of_tolerance"] for row in served))
    line["passed"] = _told(all(row["passed"] == PASSED for row in item.correctness))
    return line


def _line(run: KeptRun, experiment: str, row: Mapping[str, str]) -> dict[str, object]:
    return {
        "experiment": experiment,
        "answers of": row["name"],
        "rows": f"{int(row['rows']):,}",
        **{metric_title(run, metric): f"{_number(row[metric]):.6f}" for metric in metrics_of(row)},
        "largest difference": f"{_number(row['max_abs_diff']):.2g}" if row["max_abs_diff"] else "not comparable",
        "tolerance": row["tolerance"],
        "rows out of tolerance": row["rows_out_of_tolerance"],
        "passed": _told(row["passed"] == PASSED),
    }


def _told(passed: bool) -> Markup:
    return Markup('<span class="yes">yes</span>') if passed else Markup('<span class="no">no</span>')


def _number(text: str) -> float:
    """Number in a table of correctness; NaN in an empty cell, and for a metric that is not defined."""
    return float(text) if text else math.nan


def _charts(run: KeptRun) -> Sequence[Markup]:
    compared = [item for item in run.experiments if item.correctness]
    metrics = list(dict.fromkeys(metric for item in compared for metric in metrics_of(item.correctness[0])))
    columns = [("max_abs_diff", "Largest difference of an answer", "y")]
    columns += [(f"{name}{DIFFERENCE}", f"{metric_title(run, name)}: served minus framework", "") for name in metrics]
    charts = [(column, _chart(compared, column, title, logarithmic)) for column, title, logarithmic in columns]
    return [chart_figure(chart, f"correctness-{column}") for column, chart in charts if chart.series]


def _chart(compared: Sequence[KeptExperiment], column: str, title: str, logarithmic: str) -> Chart:
    served = list(dict.fromkeys(row["name"] for item in compared for row in item.correctness[1:]))
    series = []
    for colour, name in enumerate(served):
        found = [(item.title, row) for item in compared for row in item.correctness[1:] if row["name"] == name]
        values = [(place, _number(row.get(column, ""))) for place, row in found]
        points = [
            Point(place, value, (place, f"{title}: {value:.3g}"))
            for place, value in values
            if math.isfinite(value) and (value > 0 or not logarithmic)
        ]
        series += [Series(name, points, colour)] if points else []
    names = [item.title for item in compared]
    return Chart(title, ChartKind.BARS, "experiment", "difference", series, names, logarithmic=logarithmic)
