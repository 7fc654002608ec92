"""Scores in parts: the folder that ``score_dataset.py`` writes, as a dump.

``_plan.json``               what is scored by what, in which parts; written first
``part-00000.parquet`` …     the rows in the order of the data; a part is there when it is complete
``rejected/part-00000.csv``  rows that could not be scored, with file, row and reason
``_SUCCESS``                 empty, written when all parts are there

A part's columns are the id of the row's group, ``row`` (the number of the row in the whole data, from 0), the labels,
the outputs, and the inputs that were asked for. A tensor of several values a row is a list of fixed size. The metadata
of each parquet file, under ``scores``, is JSON: the plan's id, the numbers of rows, and each column's section, dtype
and shape.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.dump_files import PLAN_FILE, SECTIONS, DumpSource

SUCCESS_FILE = "_SUCCESS"
REJECTED_FOLDER = "rejected"
ROW_COLUMN = "row"
_METADATA = b"scores"
_AGAIN = "give the same score_dataset.py command again"


def part_name(number: int) -> str:
    """Name of a part's file, without its ending; its lines sort as the numbers do."""
    return f"part-{number:05d}"


@dataclass(frozen=True)
class PartColumn:
    """A column of a part: tensor ``name`` of a section (``rows``: the number of the row), and what a row of it is."""

    section: str
    name: str
    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, section: str, name: str, array: Array) -> PartColumn:
        """Column for an array [B, ...]. Raises DataError for values that no column can hold."""
        dtype = "str" if array.dtype.kind in "OUS" else array.dtype.name
        if 0 in array.shape[1:]:
            raise DataError(f"{name} has no values in a row: it can't be written")
        return cls(section, name, dtype, tuple(array.shape[1:]))

    def to_arrow(self, array: Array) -> pa.Array:
        """The rows of the array as a column; a scalar for each row if the row has one value."""
        flat = np.ascontiguousarray(array).reshape(-1)
        values = pa.array(map(_text, flat.tolist()), pa.string()) if self.dtype == "str" else pa.array(flat)
        size = math.prod(self.shape)
        return values if size == 1 else pa.FixedSizeListArray.from_arrays(values, size)

    def to_numpy(self, column: pa.Array) -> Array:
        """Inverse of ``to_arrow``, [B, ...]."""
        values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
        if self.dtype == "str":
            array: Array = np.array(values.to_pylist(), object)
        elif np.dtype(self.dtype).kind in "iuf":  # without pandas, whose import takes a fifth of a second
            width = np.dtype(self.dtype).itemsize
            buffer = values.buffers()[1]
            array = (
                np.frombuffer(buffer, self.dtype, len(values), values.offset * width)
                if len(values)
                else np.empty(0, self.dtype)
            )
        else:
            array = np.asarray(values.to_numpy(zero_copy_only=False))
        return array.reshape(len(column), *self.shape)


@dataclass(frozen=True)
class PartFacts:
    """What a part's metadata say: its plan, and how many rows were scored and rejected."""

    plan_id: str
    rows: int
    rejected: int
    columns: dict[str, PartColumn]

    def to_metadata(self) -> dict[bytes, bytes]:
        """For the metadata of a parquet file."""
        columns = {name: [item.section, item.name, item.dtype, list(item.shape)] for name, item in self.columns.items()}
        facts = {"plan": self.plan_id, "rows": self.rows, "rejected": self.rejected, "columns": columns}
        return {_METADATA: json.dumps(facts).encode()}


def read_facts(path: Path) -> PartFacts | None:
    """What a part's file tells; None if it is no complete part."""
    try:
        with pq.ParquetFile(path) as file:
            told = json.loads((file.metadata.metadata or {})[_METADATA])
            columns = {
                name: PartColumn(section, tensor, dtype, tuple(shape))
                for name, (section, tensor, dtype, shape) in told["columns"].items()
            }
            facts = PartFacts(str(told["plan"]), int(told["rows"]), int(told["rejected"]), columns)
            sound = facts.rows == file.metadata.num_rows and set(columns) == set(file.schema_arrow.names)
            return facts if sound else None
    except (pa.ArrowException, OSError, ValueError, LookupError, TypeError):
        return None


class PartsSource(DumpSource):
    """Reader of a folder's parts. Raises DataError if scoring has not ended, or if a part is missing or another's."""

    def __init__(self, folder: Path) -> None:
        plan = _read_plan(folder)
        number_of_parts = len(plan["parts"])
        paths = [folder / f"{part_name(number)}.parquet" for number in range(number_of_parts)]
        if not (folder / SUCCESS_FILE).is_file():
            done = sum(path.is_file() for path in paths)
            raise DataError(f"{folder} is unfinished, with {done} of {number_of_parts} parts: {_AGAIN}")
        self._parts: list[tuple[Path, PartFacts]] = []
        for path in paths:
            facts = read_facts(path)
            if facts is None or facts.plan_id != plan["id"]:
                what = "is missing" if not path.exists() else "is damaged or of another command"
                raise DataError(f"{path} {what}: remove {folder / SUCCESS_FILE} and {_AGAIN}")
            self._parts.append((path, facts))
        self.rows = sum(facts.rows for _, facts in self._parts)
        columns = self._parts[0][1].columns if self._parts else {}
        self.sections = frozenset(item.section for item in columns.values() if item.section in SECTIONS)

    def chunks(self, rows: int) -> Iterator[Arrays]:
        for path, facts in self._parts:
            columns = {name: column for name, column in facts.columns.items() if column.section in SECTIONS}
            try:
                with pq.ParquetFile(path) as file:
                    for chunk in file.iter_batches(rows, columns=list(columns)):
                        yield {
                            f"{column.section}/{column.name}": column.to_numpy(chunk.column(name))
                            for name, column in columns.items()
                        }
            except (pa.ArrowException, OSError) as error:
                told = " ".join(str(error).split())
                raise DataError(f"{path} can't be read ({told}): remove it and {_AGAIN}") from error


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _read_plan(folder: Path) -> Mapping[str, Any]:
    path = folder / PLAN_FILE
    try:
        plan = json.loads(path.read_bytes())
        if isinstance(plan["parts"], list) and isinstance(plan["id"], str):
            return dict(plan)
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise DataError(f"{path} is damaged: {_AGAIN}, with --force")
