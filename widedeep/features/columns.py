"""Conversion of parquet columns to checked numpy arrays, by a feature specification."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError, RowError
from widedeep.features.spec import PADDING_ID, Feature, FeatureSpec


class FeatureKind(Enum):
    """Kind of a column, by its use in the network."""

    NUMBER = "a number"
    ID = "an id"
    ID_LIST = "a list of ids"
    LABEL = "a label of 0 or 1"
    GROUP = "a group id"


@dataclass(frozen=True)
class FeatureColumn:
    """One column that a file must have; its arrays are ``[rows, width]`` (group ids ``[rows]``) of ``dtype``.
    ``defined`` is the place of the definition in the specification, for errors."""

    name: str
    kind: FeatureKind
    dtype: np.dtype[Any]
    width: int
    cardinality: int | None
    defined: str = ""

    def check_type(self, schema: pa.Schema, path: Path) -> None:
        """Raises DataError if the column is missing or its type can't be converted to the feature."""
        indices = schema.get_all_field_indices(self.name)
        if len(indices) != 1:
            raise DataError(
                f"{path}: column {self.name} is {'there twice' if indices else 'missing'}: "
                f"use the feature specification that came with the data{self._definition}"
            )
        actual = schema.field(indices[0]).type
        if not self._takes(actual):
            raise DataError(
                f"{path}: column {self.name} is of type {actual}, but it is {self.kind.value}: "
                f"write it as {self._wanted()}{self._definition}"
            )

    def to_numpy(self, array: pa.Array, path: Path, first_row: int) -> Array:
        """Values of the column, without a copy if type and dtype agree.

        Raises DataError for the first value that is null, not finite, out of range of the dtype, outside the feature's
        cardinality, or a list longer than ``width``. The error names ``path``, the column, the row of the file (from
        0) and the value.
        """
        where = _Where(path, self.name, first_row, self._definition)
        if array.null_count:
            where.fail(_first(array.is_null().to_numpy(zero_copy_only=False)), "is null", "fill it or drop the row")
        if self.kind is FeatureKind.ID_LIST:
            return self._pad(array, where)
        values = _values(array)
        self._check_values(values, where)
        values = values.astype(self.dtype, copy=False)
        return values if self.kind is FeatureKind.GROUP else values.reshape(-1, 1)

    @property
    def _definition(self) -> str:
        return f" (defined in {self.defined})" if self.defined else ""

    def _takes(self, actual: pa.DataType) -> bool:
        if self.kind is FeatureKind.ID_LIST:
            is_list = pa.types.is_list(actual) or pa.types.is_large_list(actual) or pa.types.is_fixed_size_list(actual)
            if pa.types.is_fixed_size_list(actual) and actual.list_size > self.width:
                return False
            # if every list is empty, the type is list<null>
            return bool(is_list and (pa.types.is_integer(actual.value_type) or pa.types.is_null(actual.value_type)))
        if pa.types.is_integer(actual):
            return True
        takes_floats = self.kind in (FeatureKind.NUMBER, FeatureKind.LABEL) and self.dtype.kind == "f"
        return takes_floats and bool(pa.types.is_floating(actual))

    def _wanted(self) -> str:
        if self.kind is FeatureKind.ID_LIST:
            return f"a list of {self.dtype}, at most {self.width} long"
        return str(self.dtype)

    def _check_values(self, values: Array, where: _Where, *, lowest: int = 0, starts: Array | None = None) -> None:
        """Checks the range of values. ``starts`` are the beginnings of the lists in ``values``, None for one value per
        row."""
        if values.size == 0:
            return
        low, high, mend = self._bounds(lowest)
        if values.min() >= low and values.max() <= high:  # both false for NaN
            if self.kind is not FeatureKind.LABEL or values.dtype.kind != "f":
                return
            wrong = (values != 0) & (values != 1)
        else:
            wrong = ~((values >= low) & (values <= high))
        if wrong.any():
            bad = _first(wrong)
            row = bad if starts is None else _owner(starts, bad)
            where.fail(row, f"holds {values[bad]}, outside {low} .. {high}", mend)

    def _bounds(self, lowest: int) -> tuple[float, float, str]:
        if self.kind is FeatureKind.LABEL:
            return 0, 1, "a label is 0 or 1"
        if self.cardinality is not None:
            mend = f"the cardinality is {self.cardinality}; use the feature specification that came with the data"
            return lowest, self.cardinality - 1, mend
        if self.dtype.kind == "f":
            limit = float(np.finfo(self.dtype).max)
            return -limit, limit, f"fill it with a finite {self.dtype} or drop the row"
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max), f"name a wider dtype than {self.dtype} in the feature specification"

    def _pad(self, array: pa.Array, where: _Where) -> Array:
        fixed = pa.types.is_fixed_size_list(array.type)
        if fixed:
            starts = np.arange(len(array) + 1) * array.type.list_size
            leaves = array.flatten()
        else:
            starts = _values(array.offsets)
            leaves = array.values[int(starts[0]) : int(starts[-1])]
        lengths = np.diff(starts)
        if lengths.max(initial=0) > self.width:
            bad = _first(lengths > self.width)
            where.fail(bad, f"holds a list of {lengths[bad]}, longer than max_hotness {self.width}", "shorten it")
        if leaves.null_count:
            bad = _first(leaves.is_null().to_numpy(zero_copy_only=False))
            where.fail(_owner(starts, bad), "holds a null in its list", "drop it from the list")
        values = _values(leaves) if len(leaves) else np.empty(0, self.dtype)
        self._check_values(values, where, lowest=PADDING_ID if fixed else 0, starts=starts)
        values = values.astype(self.dtype, copy=False)
        if lengths.min(initial=self.width) == self.width:
            return values.reshape(-1, self.width)
        padded: Array = np.full((len(array), self.width), PADDING_ID, self.dtype)
        padded[np.arange(self.width) < lengths[:, None]] = values
        return padded


def columns_of(spec: FeatureSpec) -> tuple[FeatureColumn, ...]:
    """Columns that a file of this specification must have.

    Raises DataError if the specification gives ids a dtype that is no integer type.
    """
    channels: tuple[tuple[FeatureKind, tuple[Feature, ...]], ...] = (
        (FeatureKind.NUMBER, spec.numerical),
        (FeatureKind.ID, spec.onehot),
        (FeatureKind.ID_LIST, spec.multihot),
        (FeatureKind.LABEL, (spec.label,)),
        (FeatureKind.GROUP, () if spec.group_id is None else (spec.group_id,)),
    )
    return tuple(_column(kind, feature) for kind, features in channels for feature in features)


def _column(kind: FeatureKind, feature: Feature) -> FeatureColumn:
    dtype = np.dtype(feature.dtype)
    if dtype.kind not in "iu" and kind in (FeatureKind.ID, FeatureKind.ID_LIST, FeatureKind.GROUP):
        raise DataError(
            f"feature specification: {feature.name} is {kind.value}, but its dtype is {dtype}: write int32 or int64"
        )
    return FeatureColumn(feature.name, kind, dtype, feature.max_hotness or 1, feature.cardinality, feature.where)


@dataclass(frozen=True)
class _Where:
    path: Path
    column: str
    first_row: int
    definition: str

    def fail(self, row: int, problem: str, mend: str) -> NoReturn:
        place = f"{self.path}: column {self.column}, row {self.first_row + row}"
        message = f"{place} {problem}: {mend}{self.definition}"
        raise RowError(message, row=self.first_row + row, column=self.column, problem=problem)


def _values(array: pa.Array) -> Array:
    """Numbers of an array without nulls, without a copy. Pyarrow's own function imports pandas first, which takes a
    fifth of a second."""
    kind = "f" if pa.types.is_floating(array.type) else "u" if pa.types.is_unsigned_integer(array.type) else "i"
    dtype = np.dtype(f"{kind}{array.type.bit_width // 8}")
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * dtype.itemsize)


def _first(flags: Array) -> int:
    return int(np.argmax(flags))


def _owner(starts: Array, leaf: int) -> int:
    """Row whose list holds a leaf; ``starts`` may begin above 0."""
    return int(np.searchsorted(starts - starts[0], leaf, side="right")) - 1
