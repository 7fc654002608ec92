"""Results of the comparison: a row for each run, and the values for the tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

OURS = "this deployment"
PACKED = f"{OURS}, 2 tensors"
OWN = (OURS, PACKED)


@dataclass(frozen=True, order=True)
class Cell:
    """Rows per request, and requests in flight."""

    rows: int
    concurrency: int

    def __str__(self) -> str:
        return f"{self.concurrency} × {self.rows}"


@dataclass(frozen=True)
class Run:
    """One measurement. ``request_bytes`` is the mean size of a request's body; ``memory_mib`` is the proportional set
    size of the server's processes after it; ``largest_difference`` is the largest difference of a probability from the
    framework's."""

    model: str
    system: str
    attempt: int
    rows: int
    concurrency: int
    request_bytes: float
    rows_per_s: float
    p50_ms: float
    p99_ms: float
    requests: int
    errors: int
    memory_mib: float
    largest_difference: float

    @property
    def cell(self) -> Cell:
        """Cell of the table."""
        return Cell(self.rows, self.concurrency)


@dataclass(frozen=True)
class Failure:
    """A system that could not be measured with a model, and the reason; ``attempt`` is the pass, None if before any."""

    model: str
    system: str
    reason: str
    attempt: int | None = None


@dataclass(frozen=True)
class Value:
    """Medians of a cell's runs; errors are the sum over all runs."""

    rows_per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


Values = Mapping[str, Mapping[Cell, Value]]  # by system


def values_of(runs: Iterable[Run], model: str) -> dict[str, dict[Cell, Value]]:
    """Values of the runs with a model, by system and cell."""
    groups: dict[str, dict[Cell, list[Run]]] = {}
    for run in runs:
        if run.model == model:
            groups.setdefault(run.system, {}).setdefault(run.cell, []).append(run)
    return {system: {cell: _median(group) for cell, group in cells.items()} for system, cells in groups.items()}


def first_in(values: Values, cell: Cell) -> str:
    """System with the most rows per second."""
    return max((system for system in values if cell in values[system]), key=lambda name: values[name][cell].rows_per_s)


def ratio_to_best_peer(values: Values, cell: Cell, own: str) -> float | None:
    """Ratio of the rows per second of one of ``OWN`` to the fastest peer's; None if one of the two was not measured."""
    peers = [cells[cell].rows_per_s for system, cells in values.items() if system not in OWN and cell in cells]
    if not peers or cell not in values.get(own, {}):
        return None
    return values[own][cell].rows_per_s / max(peers)


def _median(runs: Sequence[Run]) -> Value:
    return Value(
        statistics.median(run.rows_per_s for run in runs),
        statistics.median(run.p50_ms for run in runs),
        statistics.median(run.p99_ms for run in runs),
        sum(run.errors for run in runs),
    )
