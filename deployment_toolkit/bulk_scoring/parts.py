"""Writing of one part: streamed beside its place, flushed to the disk, renamed when it is complete."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array, Arrays, Prediction
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.durable import whole_file
from deployment_toolkit.rows.dump_parts import ROW_COLUMN, PartColumn, PartFacts

_GROUP_ROWS = 131_072
_NAMED_FIRST = ("rows", "outputs", "ids", "labels", "inputs")
_Key = tuple[str, str]  # section and tensor


class PartWriter:
    """Writer of a part's rows to ``path``, a row group at a time. ``inputs`` are the inputs that it carries,
    ``ids_name`` is the name of the column of ids; ``rows`` counts what was written."""

    def __init__(self, path: Path, *, ids_name: str, inputs: list[str]) -> None:
        self.rows = 0
        self._path = path
        self._ids_name = ids_name
        self._inputs = inputs
        self._columns: dict[str, PartColumn] = {}
        self._waiting: list[dict[_Key, Array]] = []
        self._waiting_rows = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, numbers: Array, prediction: Prediction) -> None:
        """Adds rows with their numbers. Raises DataError if they are of other types than those before, UsageError for
        an input that there is not."""
        batch = prediction.batch
        sections: dict[str, Arrays] = {
            "ids": {"ids": batch.ids},
            "rows": {ROW_COLUMN: numbers},
            "labels": batch.y,
            "outputs": prediction.y_pred,
            "inputs": {name: self._input(name, batch.x) for name in self._inputs},
        }
        # Copies, because a view would keep a whole chunk of the data.
        arrays = {
            (part, name): np.array(array) for part, tensors in sections.items() for name, array in tensors.items()
        }
        columns = {key: PartColumn.of(*key, array) for key, array in arrays.items()}
        if not self._columns:
            self._columns = self._named(columns)
        elif set(columns.values()) != set(self._columns.values()):
            other = sorted(item.name for item in set(columns.values()) ^ set(self._columns.values()))
            raise DataError(f"a batch has other columns than those before it, or of other types: {', '.join(other)}")
        self._waiting.append(arrays)
        self._waiting_rows += len(numbers)
        if self._waiting_rows >= _GROUP_ROWS:
            self._flush()

    def finish(self, plan_id: str, rejected: int) -> None:
        """Completes the file."""
        self._flush()
        if self._writer is not None:
            self._writer.add_key_value_metadata(PartFacts(plan_id, self.rows, rejected, self._columns).to_metadata())
        self.close()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _input(self, name: str, x: Arrays) -> Array:
        if name not in x:
            raise UsageError(f"--columns {name}: there is no such input; there are {', '.join(sorted(x))}")
        return x[name]

    def _named(self, columns: dict[_Key, PartColumn]) -> dict[str, PartColumn]:
        """Columns by their names in the file. A tensor whose name is taken, as a label's that has the name of an
        output, gets its section before it."""
        names: dict[_Key, str] = {}
        for key in sorted(columns, key=lambda key: _NAMED_FIRST.index(key[0])):
            name = self._ids_name if key[0] == "ids" else key[1]
            while name in names.values():
                name = f"{key[0]}_{name}"
            names[key] = name
        return {names[key]: column for key, column in columns.items()}

    def _flush(self) -> None:
        if not self._waiting_rows:
            return
        data = {}
        for name, column in self._columns.items():
            array = np.concatenate([arrays[column.section, column.name] for arrays in self._waiting])
            data[name] = column.to_arrow(array)
        table = pa.table(data)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)
        self.rows += self._waiting_rows
        self._waiting, self._waiting_rows = [], 0


@contextlib.contextmanager
def new_part(path: Path, *, ids_name: str, inputs: list[str]) -> Iterator[PartWriter]:
    """Writer of the part ``path``, which is there once the block has ended without an error, on disk and under its
    name. Raises DataError if it can't be written."""
    with whole_file(path) as beside:
        writer = PartWriter(beside, ids_name=ids_name, inputs=inputs)
        try:
            yield writer
        except BaseException:
            with contextlib.suppress(OSError, pa.ArrowException):  # of a full disk, which the first error told
                writer.close()
            raise
