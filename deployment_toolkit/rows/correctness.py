"""Comparison of a dump with the dump of a reference, row by row and metric by metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from deployment_toolkit.contracts.calculators import PluginCalculator
from deployment_toolkit.core import Arrays, MetricsCalculator, Prediction
from deployment_toolkit.errors import ToleranceError
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.rows.farthest import FarRow, FarthestRows
from deployment_toolkit.rows.tolerance import OutputComparison, Tolerance

_QUANTILE = 0.99

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DumpComparison:
    """Result of a comparison: a ``problem`` if rows are out of tolerance or can't be compared (different numbers of
    rows, ids, labels or outputs). If they can't be compared, the numbers are None. ``farthest`` are the rows of largest
    difference, in order, none of them equal."""

    problem: str | None = None
    max_abs_diff: float | None = None
    p99_abs_diff: float | None = None
    rows_out_of_tolerance: int | None = None
    farthest: tuple[FarRow, ...] = ()


def dump_metrics(calculator: MetricsCalculator, dump: Dump) -> dict[str, float]:
    """Metrics of a dump, computed by a new calculator of this project's contract or the original's."""
    plugin = PluginCalculator(calculator)
    for prediction in dump.predictions():
        plugin.update(prediction)
    return plugin.metrics


def why_undefined(calculator: object, metric: str) -> str:
    """Reason why a calculator's metric is NaN, in the calculator's own words if its property ``undefined`` has some."""
    reasons: Mapping[str, str] = getattr(calculator, "undefined", {})
    return reasons.get(metric, "the metrics module computes NaN for these outputs and labels")


def metric_loss(value: float, reference: float, *, lower_is_better: bool) -> float:
    """Amount by which a metric is worse than the reference; negative if it is better, NaN if either is not defined."""
    return value - reference if lower_is_better else reference - value


def compare_dumps(dump: Dump, reference: Dump, tolerance: Tolerance) -> DumpComparison:
    """Compares dumps row by row. Memory is constant except for the 1 % of differences that the 99th percentile needs.
    The percentile is over all values of all outputs and is an actual difference (the lower one)."""
    if dump.rows != reference.rows:
        return DumpComparison(f"{dump.rows} rows instead of {reference.rows}")
    largest, farthest = _LargestPercent(), FarthestRows()
    comparison: OutputComparison | None = None
    ids: dict[int, object] = {}
    for ours, theirs in zip(dump.predictions(), reference.predictions(), strict=True):
        comparison = comparison or OutputComparison(dict.fromkeys(theirs.y_pred, tolerance))
        first_row = comparison.rows
        problem = _other_rows(ours, theirs, first_row)
        if problem:
            return DumpComparison(problem)
        try:
            comparison.update(theirs.y_pred, ours.y_pred)
        except ToleranceError as error:
            return DumpComparison(str(error))
        largest.update(ours.y_pred, theirs.y_pred, reference.rows)
        farthest.update(theirs.y_pred, ours.y_pred, ours.batch.ids)
        ids |= {w.row: ours.batch.ids[w.row - first_row].item() for w in comparison.worst if w.row >= first_row}
    if comparison is None:
        return DumpComparison("there are no rows")
    problem = None
    if comparison.rows_out:
        worst = "; ".join(
            f"{row} (id {ids[row.row]}{_asked(dump.requests.rows_with(row.row))})" for row in comparison.worst
        )
        limit = f"{tolerance.atol:g} + {tolerance.rtol:g} * |reference|"
        problem = f"{comparison.rows_out} of {comparison.rows} rows differ by more than {limit}, the worst: {worst}"
    far = tuple(replace(row, asked_with=dump.requests.rows_with(row.row)) for row in farthest.found)
    return DumpComparison(problem, largest.maximum, largest.percentile, comparison.rows_out, far)


def _asked(rows: int | None) -> str:
    return "" if rows is None else f", in a request of {rows} row{'s' if rows > 1 else ''}"


def _other_rows(ours: Prediction, theirs: Prediction, first_row: int) -> str | None:
    """Phrase about ids or labels that differ, so that the rows are different ones; None if they are equal. The name of
    an only label does not matter: the original's dataloaders give it the output's."""
    pairs: list[Arrays] = []
    other_name = len(ours.batch.y) == len(theirs.batch.y) == 1 and ours.batch.y.keys() != theirs.batch.y.keys()
    for prediction in (ours, theirs):
        labels = {"label" if other_name else f"label {name}": array for name, array in prediction.batch.y.items()}
        pairs.append({"id": prediction.batch.ids} | labels)
    if pairs[0].keys() != pairs[1].keys():
        return f"labels {sorted(ours.batch.y)} instead of {sorted(theirs.batch.y)}"
    for name, a in pairs[0].items():
        b = pairs[1][name]
        if a.shape != b.shape:
            return f"{name} has shape {list(a.shape[1:])} a row instead of {list(b.shape[1:])}"
        wrong = (a != b).reshape(len(a), -1).any(axis=1)
        if wrong.any():
            at = int(np.argmax(wrong))
            return f"{name} of row {first_row + at} is {a[at].tolist()} instead of {b[at].tolist()}"
    return None


class _LargestPercent:
    """Keeps the largest absolute differences, down to the 99th percentile. NaN counts as infinite."""

    def __init__(self) -> None:
        self._values: Floats = np.zeros(0)

    def update(self, ours: Arrays, theirs: Arrays, total_rows: int) -> None:
        total = total_rows * sum(array[0].size for array in theirs.values())
        count = total - math.floor(_QUANTILE * (total - 1))
        differences = [np.abs(ours[name].astype(np.float64) - theirs[name]).reshape(-1) for name in theirs]
        values: Floats = np.nan_to_num(np.concatenate([self._values, *differences]), nan=np.inf, posinf=np.inf)
        self._values = values if len(values) <= count else np.partition(values, len(values) - count)[-count:]

    @property
    def maximum(self) -> float:
        return float(self._values.max())

    @property
    def percentile(self) -> float:
        return float(self._values.min())
