"""Tensors of Triton's Python backend as numpy arrays, and back.

The backend's process was compiled with a pybind11 that reads an array's item size where NumPy 1 had it, so its own
``as_numpy`` returns wrong numbers under NumPy 2 and its ``Tensor(name, array)`` is empty. Numbers pass by DLPack here,
which has a layout of its own. The strings of requests, for which DLPack has no form, pass with
``numpy_functions.corrected``; there is no way for strings of answers.
"""

from __future__ import annotations

import contextlib
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


class Tensors:
    """The tensors of one model. Make it before anything else in the process makes a tensor.

    Raises ServerError if the backend changes numbers, or the strings of a model that takes any, on their way, and
    ModelError for a model that answers with strings.
    """

    def __init__(self, spec: ModelSpec) -> None:
        for tensor in spec.outputs:
            if tensor.dtype == _STRINGS:
                raise ModelError(f"output {tensor.name} holds strings, {NEEDS_NATIVE}")
        self._strings = frozenset(tensor.name for tensor in spec.inputs if tensor.dtype == _STRINGS)
        with corrected() if self._strings else contextlib.nullcontext():
            _require_exact_numbers()  # makes the first tensor
        if self._strings:
            _require_exact_strings()

    def inputs(self, request: Any) -> Arrays:
        """Inputs of a request by name. Strings are bytes in object arrays. Arrays of numbers may be read-only: they are
        the request's own memory, which lives as long as they do, or copies where it lies askew."""
        x = {}
        for tensor in request.inputs():
            name = tensor.name()
            x[name] = tensor.as_numpy() if name in self._strings else _numbers(tensor)
        return x

    def outputs(self, y: Arrays) -> list[Any]:
        """Tensors of a response. Rows of a larger batch are not copied."""
        return [_tensor(name, array) for name, array in y.items()]


class _Exported:
    """A capsule as an object that numpy takes. Given the tensor itself, numpy would first ask it for a newer DLPack and
    have it refuse, which takes three times as long."""

    __slots__ = ("_capsule",)

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule

    def __dlpack__(self, **_: object) -> Any:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # memory of the CPU


def _numbers(tensor: Any) -> Array:
    array: Array = np.from_dlpack(_Exported(tensor.to_dlpack()))
    return array if array.flags.aligned else array.copy()


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
            _require_equal(_numbers(_tensor("known", known)), known, f"{dtype} numbers")


def _require_exact_strings() -> None:
    """Known strings go the way of a request's: the backend makes an array of their bytes, and of it strings."""
    encoded = np.frombuffer(b"".join(struct.pack("<I", len(string)) + string for string in _KNOWN_STRINGS), np.uint8)
    memory = _tensor("known", encoded).as_numpy()
    # Wrong bytes can't be taken apart, so they are compared first.
    _require_equal(memory, encoded, "strings")
    _require_equal(pb_utils.deserialize_bytes_tensor(memory), np.array(_KNOWN_STRINGS, object), "strings")


def _require_equal(passed: Array, known: Array, what: str) -> None:
    if passed.dtype != known.dtype or not np.array_equal(passed, known):
        raise ServerError(
            f"this server's Python backend changes {what} on their way with NumPy {np.__version__}: install the "
            "packages that requirements.txt pins, or deploy with --host cpp"
        )
