"""Rows that can't be scored: how they are found, how many may be, and the file that tells of them."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deployment_toolkit.bulk_scoring.plan import ScoringPlan
from deployment_toolkit.core import Array, Batch, ModelSpec, Prediction
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import remove
from deployment_toolkit.files.durable import whole_file
from deployment_toolkit.rows.batches import BadRow


@dataclass
class BadRows:
    """Bad rows of a part, of which there may be ``most``. Methods raise DataError, which names file, column, row and
    value, for one more."""

    plan: ScoringPlan
    most: int

    def __post_init__(self) -> None:
        self._found: list[BadRow] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, row: BadRow) -> None:
        """Adds a row."""
        self._found.append(row)
        if len(self._found) > self.most:
            allowed = f"; --max-bad-rows allows {self.most} such rows" if self.most else ""
            raise DataError(
                f"{row.path}: row {row.row}: {row.reason}: mend or drop the row, or leave such rows out with "
                f"--max-bad-rows{allowed}"
            )

    def without_refused(self, numbers: Array, batch: Batch, spec: ModelSpec) -> tuple[Array, Batch]:
        """The rows whose ids the model has, with their numbers."""
        bad: Array = np.zeros(len(batch), bool)
        for tensor in spec.unpacked.inputs:
            array = batch.x.get(tensor.name)
            if tensor.value_range is None or array is None or array.dtype.kind not in "iuf" or not array.size:
                continue
            low, high = tensor.value_range
            if array.min() >= low and array.max() <= high:
                continue
            values = array.reshape(len(batch), -1)
            wrong = ~((values >= low) & (values <= high))
            problem = f"column {tensor.name} holds {{}}, outside {low} .. {high} of the model"
            bad = bad | self._add(wrong & ~bad[:, None], values, numbers, problem)
        return (numbers, batch) if not bad.any() else (numbers[~bad], _rows(batch, ~bad))

    def without_unanswered(self, numbers: Array, prediction: Prediction) -> tuple[Array, Prediction]:
        """The rows for which the model has a number, with their numbers; NaN and infinity are none."""
        bad: Array = np.zeros(len(prediction.batch), bool)
        for name, array in prediction.y_pred.items():
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            values = array.reshape(len(array), -1)
            bad = bad | self._add(
                ~np.isfinite(values) & ~bad[:, None], values, numbers, f"the model answers {name} {{}}"
            )
        if not bad.any():
            return numbers, prediction
        answers = {name: array[~bad] for name, array in prediction.y_pred.items()}
        return numbers[~bad], Prediction(_rows(prediction.batch, ~bad), answers)

    def write(self, path: Path) -> None:
        """Writes the rows in order to a CSV file, or removes an earlier one if there are none."""
        if not self._found:
            remove(path)
            return
        with whole_file(path) as beside, beside.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["file", "row", "reason"])
            order = {name: index for index, (name, _) in enumerate(self.plan.files)}
            for row in sorted(self._found, key=lambda row: (order[str(row.path)], row.row)):
                writer.writerow([row.path, row.row, row.reason])

    def _add(self, wrong: Array, values: Array, numbers: Array, problem: str) -> Array:
        """Adds the rows [B] that are wrong in any of their values [B, N]; returns which these are."""
        rows: Array = np.asarray(wrong.any(axis=1))
        for index in np.flatnonzero(rows):
            file, row = self.plan.place_of(int(numbers[index]))
            value = values[index][wrong[index]][0]
            self.add(BadRow(Path(file), row, problem.format(value)))
        return rows


def _rows(batch: Batch, kept: Array) -> Batch:
    x, y = ({name: array[kept] for name, array in tensors.items()} for tensors in (batch.x, batch.y))
    return Batch(batch.ids[kept], x, y)
