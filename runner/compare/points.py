"""Points of a sweep, and their names on an axis."""

from __future__ import annotations

from collections.abc import Sequence

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, PerformanceRow

SweepPoint = tuple[int, int]  # batch, concurrency


def point_of(row: PerformanceRow) -> SweepPoint:
    """Point of a row."""
    return row[BATCH], row[CONCURRENCY]


def point_labels(points: Sequence[SweepPoint], mode: EvaluationMode) -> list[str]:
    """Names of points: what the sweep varies, with the other number where that varies, too."""
    first = 0 if mode is EvaluationMode.OFFLINE else 1
    alone = len({point[1 - first] for point in points}) == 1
    return [f"{point[first]:,}" if alone else f"{point[0]:,} x {point[1]:,}" for point in points]
