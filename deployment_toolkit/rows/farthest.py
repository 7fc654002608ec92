"""The rows of a dump whose answers differ most from the reference's, within the tolerance or not."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from deployment_toolkit.core import Array, Arrays

_KEPT = 5


@dataclass(frozen=True)
class FarRow:
    """Largest difference of an output in one row. ``row`` counts from 0; ``id`` is the row's own; ``asked_with`` are
    the rows of the request it came with, None if unknown."""

    difference: float
    row: int
    id: object
    output: str
    reference: float
    answer: float
    asked_with: int | None = None


class FarthestRows:
    """Collects the few rows of largest absolute difference, batch by batch. NaN counts as infinitely far."""

    def __init__(self) -> None:
        self._rows = 0
        self.found: list[FarRow] = []

    def update(self, reference: Arrays, answers: Arrays, ids: Array) -> None:
        """Takes the next rows: outputs of the same names and shapes, and an id for each row."""
        for name, expected in reference.items():
            exact = expected.reshape(len(expected), -1).astype(np.float64)
            answer = answers[name].reshape(len(expected), -1)
            differences = np.nan_to_num(np.abs(exact - answer), nan=np.inf, posinf=np.inf)
            by_row = differences.max(axis=1, initial=0.0)
            for index in np.argsort(by_row)[::-1][:_KEPT]:
                column = int(differences[index].argmax()) if differences.shape[1] else 0
                if by_row[index] > 0:
                    self.found.append(
                        FarRow(
                            float(by_row[index]),
                            self._rows + int(index),
                            ids[index].item() if ids[index].ndim == 0 else ids[index].tolist(),
                            name,
                            float(exact[index, column]),
                            float(answer[index, column]),
                        )
                    )
        self._rows += len(ids)
        self.found = heapq.nlargest(_KEPT, self.found, key=lambda item: (item.difference, -item.row))
