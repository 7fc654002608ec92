"""Signature of few tensors: all numbers of a row in one, all its ids in another.

A request carries a name, a shape and a type for every tensor. With 29 inputs these cost more than the data of a row. A
packed model takes float32 ``numerical_features`` [B, numbers] and int32 ``categorical_features`` [B, ids]: the inputs
of the original signature side by side, in the order of their names; the padded list of a multi-hot feature has a column
for each place. The signature's ``columns`` tell which columns are which input.

Source of the names: the deployment of NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/DLRM_and_DCNv2
(deployment/tf/constants.py).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deployment_toolkit.core import Array, Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import InputError, UsageError

NUMBERS, IDS = "numerical_features", "categorical_features"

_IDS_DTYPE = "int32"
_ID_LIMITS = np.iinfo(_IDS_DTYPE)


def packed_spec(spec: ModelSpec) -> ModelSpec:
    """Signature of the packed model; a signature that is packed already stays.

    Raises UsageError, with the name and the reason, for a tensor that can't be packed: strings, rows of free shape,
    floats other than float32, integers that may not fit int32.
    """
    if spec != spec.unpacked:
        return spec
    for output in spec.outputs:
        if output.name in (NUMBERS, IDS):
            raise UsageError(f"the inputs can't be packed: output {output.name} has the name of a packed input")
    numbers = [tensor for tensor in spec.inputs if _is_number(tensor)]
    ids = [_bounded(tensor) for tensor in spec.inputs if not _is_number(tensor)]
    groups = ((NUMBERS, "float32", numbers), (IDS, _IDS_DTYPE, ids))
    inputs = tuple(
        TensorSpec(name, dtype, (sum(tensor.row_size for tensor in tensors),), columns=tuple(tensors))
        for name, dtype, tensors in groups
        if tensors
    )
    return ModelSpec(inputs, spec.outputs)


def pack(x: Arrays, spec: ModelSpec) -> Arrays:
    """Inputs for the signature ``spec``, from arrays [B, ...] of its original signature; the same arrays if it is not
    packed. Raises InputError for an integer that does not fit int32."""
    return {tensor.name: _side_by_side(tensor, x) if tensor.columns else x[tensor.name] for tensor in spec.inputs}


def column_bounds(tensor: TensorSpec) -> tuple[Array, Array]:
    """Smallest and largest value of each column of a packed input, two arrays [columns] of its dtype; columns without a
    value range have the dtype's limits."""
    kind = np.dtype(tensor.dtype).kind
    limits = (-np.inf, np.inf) if kind == "f" else (_ID_LIMITS.min, _ID_LIMITS.max)
    bounds = [column.value_range or limits for column in tensor.columns for _ in range(column.row_size)]
    low, high = np.array(bounds, tensor.dtype).T.copy()
    return low, high


def unpack(x: Arrays, spec: ModelSpec) -> Arrays:
    """Inverse of ``pack``."""
    return {name: array for tensor in spec.inputs for name, array in _parts(tensor, x[tensor.name]).items()}


def _side_by_side(tensor: TensorSpec, x: Arrays) -> Array:
    parts = []
    for column in tensor.columns:
        array = x[column.name]
        if not np.can_cast(array.dtype, tensor.dtype) and array.size and not _fit(array):
            raise InputError(f"input {column.name} holds a number that does not fit {tensor.dtype}")
        parts.append(array.reshape(len(array), column.row_size))
    return np.concatenate(parts, axis=1, dtype=tensor.dtype, casting="unsafe")


def _fit(array: Array) -> bool:
    return bool(array.min() >= _ID_LIMITS.min and array.max() <= _ID_LIMITS.max)


def _parts(tensor: TensorSpec, array: Array) -> Arrays:
    if not tensor.columns:
        return {tensor.name: array}
    ends = np.cumsum([column.row_size for column in tensor.columns])
    parts = np.split(array, ends[:-1], axis=1)
    return {
        column.name: part.reshape(len(part), *column.shape).astype(column.dtype, copy=False)
        for column, part in zip(tensor.columns, parts, strict=True)
    }


def _is_number(tensor: TensorSpec) -> bool:
    """True for a number, False for ids. Raises UsageError for anything else."""
    if -1 in tensor.shape:
        raise _refusal(tensor, f"its rows are of the free shape {list(tensor.shape)}")
    if tensor.dtype == "float32":
        return True
    if np.dtype(tensor.dtype).kind not in "iu":
        held = "strings" if tensor.dtype == "object" else tensor.dtype
        raise _refusal(tensor, f"it holds {held}, only float32 and integers can be packed")
    return False


def _bounded(tensor: TensorSpec) -> TensorSpec:
    """Ids with a value range if int32 holds more than the model takes. Raises UsageError if it does not hold all."""
    limits = np.iinfo(tensor.dtype)
    low, high = tensor.value_range or (int(limits.min), int(limits.max))
    if low < _ID_LIMITS.min or high > _ID_LIMITS.max:
        raise _refusal(tensor, f"it holds {tensor.dtype} from {low} to {high}, more than int32 can")
    return tensor if tensor.dtype == _IDS_DTYPE else replace(tensor, value_range=(low, high))


def _refusal(tensor: TensorSpec, reason: str) -> UsageError:
    return UsageError(f"input {tensor.name} can't be packed: {reason}; deploy the model without --packed-inputs")
