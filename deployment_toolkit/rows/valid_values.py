"""Check that the values of requests are ones that a model takes: ids inside their tables, numbers finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from deployment_toolkit.core import Array, Arrays, ModelSpec, TensorSpec, check_value_range
from deployment_toolkit.errors import InputError
from deployment_toolkit.packing import column_bounds

_SMALL = 32  # elements up to which Python's own functions beat numpy's


class ValidValues:
    """Rules for the inputs of a signature. With ``finite``, NaN and infinities are refused."""

    def __init__(self, spec: ModelSpec, *, finite: bool) -> None:
        self._spec, self._finite = spec, finite
        self._rules = list(_rules(spec, finite))

    def hold(self, x: Arrays) -> bool:
        """True if all values are valid, by input [B, ...]. A quick check, since values are nearly always valid."""
        return all(rule(x[name]) for name, rule in self._rules)

    def require(self, x: Arrays) -> None:
        """Raises InputError, with the input and the value, or the column of a packed input, for a value that is not
        valid."""
        for tensor in self._spec.inputs:
            array = x[tensor.name]
            check_value_range(tensor, array)
            if self._finite and array.dtype.kind == "f":
                _require_finite(tensor, array)


def _rules(spec: ModelSpec, finite: bool) -> Iterator[tuple[str, Callable[[Array], bool]]]:
    for tensor in spec.inputs:
        if finite and np.dtype(tensor.dtype).kind == "f":
            yield tensor.name, _is_finite
        elif tensor.value_range is not None:
            yield tensor.name, _Between(*tensor.value_range)
        elif any(column.value_range is not None for column in tensor.columns):
            yield tensor.name, _ColumnsBetween(*column_bounds(tensor))


def _is_finite(array: Array) -> bool:
    if array.size <= _SMALL:
        return all(map(math.isfinite, array.ravel().tolist()))
    return bool(np.isfinite(array).all())


class _Between:
    """Rule of an input with bounds."""

    def __init__(self, low: int, high: int) -> None:
        self._low, self._high = low, high

    def __call__(self, array: Array) -> bool:
        if array.size > _SMALL:
            smallest, largest = np.minimum.reduce(array, axis=None), np.maximum.reduce(array, axis=None)
        elif array.size:
            values = array.ravel().tolist()
            smallest, largest = min(values), max(values)
        else:
            return True
        return bool(self._low <= smallest and largest <= self._high)


class _ColumnsBetween:
    """Rule of a packed input: bounds of each column, arrays [columns]."""

    def __init__(self, low: Array, high: Array) -> None:
        self._low, self._high = low, high

    def __call__(self, array: Array) -> bool:
        return not np.logical_or(array < self._low, array > self._high).any()


def _require_finite(tensor: TensorSpec, array: Array) -> None:
    places = np.argwhere(~np.isfinite(array))
    if not len(places):
        return
    value = float(array[tuple(places[0])])
    told = "NaN" if math.isnan(value) else "infinity" if value > 0 else "-infinity"
    where = f"input {tensor.name}"
    if tensor.columns:
        names = [column.name for column in tensor.columns for _ in range(column.row_size)]
        where += f": {names[places[0][1]]}"
    raise InputError(f"{where} holds {told}, a number must be finite")
