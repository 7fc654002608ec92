"""Correction of a pybind11 that was made for NumPy 1, in a process with NumPy 2.

Such an extension computes an array's strides from the item size that it reads where NumPy 1 had it. In NumPy 2 that
place holds 0, so all strides are 0 and the array repeats its first number. The arrays are contiguous: NumPy computes
the right strides itself if it is given none.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import mmap
import platform
from collections.abc import Iterator
from typing import Any

_FUNCTIONS = 300  # of NumPy's table, which only grows: pybind11 uses those up to 282
_NEW_FROM_DESCR = 94  # index of PyArray_NewFromDescr(subtype, descr, nd, dims, strides, data, flags, obj)
_POINTER = ctypes.c_void_p
_NewFromDescr = ctypes.PYFUNCTYPE(
    _POINTER, _POINTER, _POINTER, ctypes.c_int, _POINTER, _POINTER, _POINTER, ctypes.c_int, _POINTER
)


@contextlib.contextmanager
def corrected() -> Iterator[None]:
    """While the block runs, an extension of an old pybind11 that makes its first array gets NumPy's functions with a
    corrected one, and keeps them. NumPy and other extensions keep theirs."""
    module: Any = importlib.import_module("numpy.core.multiarray")  # where only a pybind11 up to 2.11 looks
    original = module._ARRAY_API
    module._ARRAY_API = _corrected_table()[0]
    try:
        yield
    finally:
        module._ARRAY_API = original


@functools.cache
def _corrected_table() -> tuple[Any, ...]:
    """A capsule with a copy of NumPy's table of functions, and what must live as long as the process."""
    get = ctypes.PYFUNCTYPE(_POINTER, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    new = ctypes.PYFUNCTYPE(ctypes.py_object, _POINTER, ctypes.c_char_p, _POINTER)(("PyCapsule_New", ctypes.pythonapi))
    module: Any = importlib.import_module("numpy._core.multiarray")
    table_type = _POINTER * _FUNCTIONS
    table = table_type(*table_type.from_address(get(module._ARRAY_API, None)))
    original = table[_NEW_FROM_DESCR] or 0
    try:
        code: Any = _without_strides_in_code(original)
        table[_NEW_FROM_DESCR] = ctypes.addressof(ctypes.c_char.from_buffer(code))
    except OSError:  # a hardened system gives no memory for code
        code = _without_strides(original)
        table[_NEW_FROM_DESCR] = ctypes.cast(code, _POINTER).value
    return new(ctypes.addressof(table), None, None), table, code


def _without_strides_in_code(original: int) -> mmap.mmap:
    """Memory with the function: it clears the fifth argument and goes on in the original. This takes no time, while a
    call of Python's took 3 µs for each tensor. Raises OSError where there can't be such memory."""
    if platform.machine() != "x86_64":
        raise OSError(f"no code for {platform.machine()}")
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\x4d\x31\xc0")  # xor r8, r8
    code.write(b"\x48\xb8" + original.to_bytes(8, "little"))  # mov rax, original
    code.write(b"\xff\xe0")  # jmp rax
    return code


def _without_strides(original: int) -> Any:
    """The same function in Python."""
    new_from_descr = _NewFromDescr(original)

    def contiguous(  # references pass through as they are: all are addresses
        subtype: int, descr: int, nd: int, dims: int, strides: int, data: int, flags: int, obj: int
    ) -> int:
        made: int = new_from_descr(subtype, descr, nd, dims, None, data, flags, obj)
        return made

    return _NewFromDescr(contiguous)
