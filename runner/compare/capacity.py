"""Comparison of the highest rates that hold a latency budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from deployment_toolkit.results.capacity import (
    BUDGET,
    OFFERED,
    ROWS,
    VALID,
    CapacityRow,
    capacities,
    client_was_late,
)
from deployment_toolkit.results.performance import DISTURBED, P99, US_PER_MS
from runner.compare.intervals import Interval
from runner.compare.noise import side_note

CAPACITY = "capacity"
# A capacity is found once, without windows: so much of it may be the host's, as windows may differ that settled.
_HOST = 1.1


@dataclass(frozen=True)
class CapacityFigure:
    """A figure of two curves of capacity; fields as those of a line."""

    point: tuple[tuple[str, str], ...]
    measure: str
    higher_is_better: bool
    base: float
    value: float
    interval: Interval | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Bracket:
    """The highest rate that holds, 0 if none does, and the lowest above it at which the server fails, infinite if no
    rate was tried that shows it."""

    holds: float
    fails: float


def capacity_figures(base: Sequence[CapacityRow], other: Sequence[CapacityRow]) -> Iterator[CapacityFigure]:
    """Capacities for the same rows of a request and budget, with the interval that the tried rates leave open, widened
    by a tenth; then the 99th percentiles at the same offered rate."""
    brackets = [_brackets(rows) for rows in (base, other)]
    for key, first in brackets[0].items():
        second = brackets[1].get(key)
        if second is None:
            continue
        rows, budget_us = key
        sides = (first, second)
        notes = side_note("no rate holds", [not side.holds for side in sides])
        notes += side_note("the server may do more", [math.isinf(side.fails) for side in sides])
        yield CapacityFigure(
            ((ROWS.lower(), str(rows)), ("p99 within", f"{budget_us / US_PER_MS:g} ms")),
            "requests/s", True, first.holds, second.holds, _between(first, second), notes,
        )  # fmt: skip
    curves = [{(row[ROWS], row[OFFERED]): float(row[P99]) for row in rows} for rows in (base, other)]
    for point, p99_us in curves[0].items():
        if point in curves[1]:
            where = ((ROWS.lower(), str(point[0])), ("offered requests/s", f"{point[1]:g}"))
            values = (p99_us / US_PER_MS, curves[1][point] / US_PER_MS)
            yield CapacityFigure(where, "p99 latency (ms)", False, *values, None)


def _brackets(rows: Sequence[CapacityRow]) -> dict[tuple[int, float], _Bracket]:
    """Brackets by rows of a request and budget. A run that was judged by one budget tells of another if its p99 is
    above that. What fails while others use the cores, or the client is late, does not show that the server fails."""
    held = capacities(rows)
    found = {}
    for key in sorted({(row[ROWS], row[BUDGET]) for row in rows}):
        size, budget_us = key
        holds = float(held[key][OFFERED]) if key in held else 0.0
        failed = [
            float(row[OFFERED])
            for row in rows
            if row[ROWS] == size
            and not (row.get(DISTURBED) or client_was_late(row))
            and (row[P99] > budget_us or (row[BUDGET] == budget_us and not row[VALID]))
        ]
        found[key] = _Bracket(holds, min((rate for rate in failed if rate > holds), default=math.inf))
    return found


def _between(base: _Bracket, other: _Bracket) -> Interval | None:
    if not base.holds or math.inf in (base.fails, other.fails):
        return None
    return Interval(other.holds / base.fails, other.fails / base.holds).widened(1 / _HOST, _HOST)
