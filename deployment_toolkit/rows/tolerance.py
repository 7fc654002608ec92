"""Comparison of two models' answers to the same rows, element by element."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import ToleranceError

_WORST = 5


@dataclass(frozen=True)
class Tolerance:
    """Tolerance of a comparison: candidate b agrees with reference a if ``|a - b| <= atol + rtol * |a|``; NaN never
    agrees.

    Source: ``numpy.isclose``; the reference scales ``rtol``.
    """

    atol: float = 1e-5
    rtol: float = 1e-5

    def excess(self, reference: Array, candidate: Array) -> Array:
        """Amount by which each element is out of tolerance; at most 0 if it agrees, inf for NaN."""
        exact = reference.astype(np.float64)
        excess = np.abs(exact - candidate) - (self.atol + self.rtol * np.abs(exact))
        return np.where(np.isnan(excess), np.inf, excess)


@dataclass(order=True)
class WorstRow:
    """A row out of tolerance; ordered by the amount."""

    excess: float
    output: str
    row: int
    reference: float
    candidate: float

    def __str__(self) -> str:
        return f"row {self.row} of {self.output}: {self.reference:.7g} became {self.candidate:.7g}"


@dataclass
class OutputComparison:
    """Comparison of outputs, batch by batch. ``max_abs_diff`` is over all elements; ``worst`` holds the worst rows out
    of tolerance."""

    tolerances: Mapping[str, Tolerance]
    rows: int = 0
    rows_out: int = 0
    max_abs_diff: float = 0.0
    worst: list[WorstRow] = field(default_factory=list)

    def update(self, reference: Arrays, candidate: Arrays) -> None:
        """Compares the next rows. Raises ToleranceError if the outputs' names or shapes differ."""
        if reference.keys() != candidate.keys():
            raise ToleranceError(f"outputs differ: {sorted(reference)} became {sorted(candidate)}")
        out: Array = np.zeros(0, bool)
        rows = 0
        for name, expected in reference.items():
            answer = candidate[name]
            if expected.shape != answer.shape:
                raise ToleranceError(f"output {name} differs in shape: {expected.shape} became {answer.shape}")
            rows = len(expected)
            excess = self.tolerances[name].excess(expected, answer).reshape(rows, -1)
            exceeded: Array = np.any(excess > 0, axis=1)
            out = exceeded | out if out.size else exceeded
            difference = np.abs(expected.astype(np.float64) - answer)
            self.max_abs_diff = max(self.max_abs_diff, float(np.nanmax(difference, initial=0.0)))
            self._keep_worst(name, excess, expected.reshape(rows, -1), answer.reshape(rows, -1))
        self.rows += rows
        self.rows_out += int(out.sum())

    def require_agreement(self, what: str) -> None:
        """Raises ToleranceError, with the worst rows, if any row is out of tolerance."""
        if self.rows_out:
            limits = ", ".join(f"{name} atol {t.atol:g} rtol {t.rtol:g}" for name, t in self.tolerances.items())
            worst = "; ".join(map(str, self.worst))
            raise ToleranceError(f"{what}: {self.rows_out} of {self.rows} rows out of tolerance ({limits}): {worst}")

    def _keep_worst(self, name: str, excess: Array, expected: Array, answer: Array) -> None:
        by_row = excess.max(axis=1)
        for index in np.argsort(by_row)[::-1][:_WORST]:
            if by_row[index] > 0:
                column = int(excess[index].argmax())
                values = (float(expected[index, column]), float(answer[index, column]))
                self.worst.append(WorstRow(float(by_row[index]), name, self.rows + int(index), *values))
        self.worst = heapq.nlargest(_WORST, self.worst)
