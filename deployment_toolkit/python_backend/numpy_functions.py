"""Correction of a pybind11 that was made for NumPy 1, in a process with NumPy 2.

Such an extension computes an array's strides from the item size that it reads where NumPy 1 had it. In NumPy 2 that
place holds 0, so all strides are 0 and the array repeats its first number. The arrays are contiguous, for which NumPy
computes the strides itself if it is given none.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
from collections.abc import Iterator
from typing import Any

_FUNCTIONS = 300  # of NumPy's table, which only grows: pybind11 uses those up to 282
_NEW_FROM_DESCR = 94  # index of PyArray_NewFromDescr


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """While the block runs, an extension of an old pybind11 that makes its first array gets NumPy's functions with a
    corrected one, and keeps them. NumPy and other extensions keep theirs."""
    module = importlib.import_module("numpy.core.multiarray")  # where only a pybind11 up to 2.11 looks
    original = module._ARRAY_API
    module._ARRAY_API = _corrected_table()[0]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        module._ARRAY_API = original  # type: ignore[attr-defined]


@functools.cache
def _corrected_table() -> tuple[Any, ...]:
    """A capsule with a copy of NumPy's table of functions, and what must live as long as the process."""
    pointer = ctypes.c_void_p
    signature = ctypes.PYFUNCTYPE(
        pointer, pointer, pointer, ctypes.c_int, pointer, pointer, pointer, ctypes.c_int, pointer
    )
    get = ctypes.PYFUNCTYPE(pointer, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    new = ctypes.PYFUNCTYPE(ctypes.py_object, pointer, ctypes.c_char_p, pointer)(("PyCapsule_New", ctypes.pythonapi))
    table_type = pointer * _FUNCTIONS
    original = table_type.from_address(get(importlib.import_module("numpy._core.multiarray")._ARRAY_API, None))
    new_from_descr = signature(original[_NEW_FROM_DESCR] or 0)

    def contiguous(  # the parameters of PyArray_NewFromDescr, as addresses: references pass through as they are
        subtype: int, descr: int, nd: int, dims: int, strides: int, data: int, flags: int, obj: int
    ) -> int:
        made: int = new_from_descr(subtype, descr, nd, dims, None, data, flags, obj)
        return made

    callback = signature(contiguous)
    table = table_type(*original)
    table[_NEW_FROM_DESCR] = ctypes.cast(callback, pointer).value
    return new(ctypes.addressof(table), None, None), table, callback
