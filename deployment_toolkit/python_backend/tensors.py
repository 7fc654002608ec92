"""Tensors of Triton's Python backend as numpy arrays, and back.

The backend's process was compiled with a pybind11 that reads an array's item size where NumPy 1 had it. Under NumPy 2
its ``as_numpy`` needs ``numpy_functions.corrected``. Its ``Tensor(name, array)`` is empty, so numbers of an answer pass
by DLPack, which has a layout of its own. Strings of an answer have no way.
"""

from __future__ import annotations

import ctypes
import struct
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from deployment_toolkit.core import Array, Arrays, ModelSpec
from deployment_toolkit.deploying.deployment import DTYPES, NEEDS_NATIVE
from deployment_toolkit.errors import ModelError, ServerError
from deployment_toolkit.python_backend.numpy_functions import corrected

_STRINGS = "object"
_KNOWN_NUMBERS = ((1, 0, 2), (3, 0, 5))  # several, as a fault may repeat the first
_KNOWN_STRINGS = (b"ad", "señal".encode(), b"", b"a\0b")
_USED = ctypes.c_char_p(b"used_dltensor")  # lives as long as any capsule
_set_name = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_SetName", ctypes.pythonapi))


def prepare(spec: ModelSpec) -> None:
    """Makes ``inputs`` and ``outputs`` work for a model. Call it before anything else in the process makes a tensor.

    Raises ServerError if the backend changes known numbers or strings on their way, ModelError for a model that answers
    with strings.
    """
    for tensor in spec.outputs:
        if tensor.dtype == _STRINGS:
            raise ModelError(f"output {tensor.name} holds strings, {NEEDS_NATIVE}")
    with corrected():
        _require_exact_numbers()  # makes the first tensor
    _require_exact_strings()


def inputs(request: Any) -> Arrays:
    """Inputs of a request by name, in arrays of their own; strings are bytes in object arrays."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def outputs(y: Arrays) -> list[Any]:
    """Tensors of a response. Rows of a larger batch are not copied."""
    return [_tensor(name, array) for name, array in y.items()]


def _tensor(name: str, array: Array) -> Any:
    if not array.size:  # its item size does not matter, while the backend refuses its strides in DLPack
        return pb_utils.Tensor(name, array)
    flags = array.flags
    # The backend takes some arrays with gaps between the rows for whole ones; numpy exports no read-only memory.
    if not (flags.c_contiguous and flags.writeable):
        array = array.copy()
    capsule = array.__dlpack__()
    tensor = pb_utils.Tensor.from_dlpack(name, capsule)
    # The backend gives a used capsule another name than DLPack's, of which numpy complains in the log.
    _set_name(capsule, _USED)
    return tensor


def _require_exact_numbers() -> None:
    for dtype in DTYPES:
        if dtype != _STRINGS:
            known = np.array(_KNOWN_NUMBERS).astype(dtype)
            _require_equal(_passed(known), known, f"{dtype} numbers")


def _require_exact_strings() -> None:
    """Known strings go the way of a request's: the backend makes an array of their bytes, and of it strings."""
    encoded = np.frombuffer(b"".join(struct.pack("<I", len(string)) + string for string in _KNOWN_STRINGS), np.uint8)
    passed = _passed(encoded)
    # Wrong bytes can't be taken apart, so they are compared first.
    _require_equal(passed, encoded, "strings")
    _require_equal(pb_utils.deserialize_bytes_tensor(passed), np.array(_KNOWN_STRINGS, object), "strings")


def _passed(array: Array) -> Array:
    """An array by the way of an answer's tensor, then by that of a request's: both are made of memory."""
    passed: Array = _tensor("known", array).as_numpy()
    return passed


def _require_equal(passed: Array, known: Array, what: str) -> None:
    if passed.dtype != known.dtype or not np.array_equal(passed, known):
        raise ServerError(
            f"this server's Python backend changes {what} on their way with NumPy {np.__version__}: install the "
            "packages that requirements.txt pins, or deploy with --host cpp"
        )
