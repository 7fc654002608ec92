"""What writers and readers of a dump have in common, and those of the format npy.

npy:  ``<section>/<tensor>.npy``, one array of all rows per tensor, the tensor's name percent-encoded
json: ``<section>-<first row, 12 digits>.json`` (``dump_json.py``)

The sections are ids, outputs, labels and inputs; a reader's arrays are named ``<section>/<tensor>``. The folder also
has ``requests.json`` (``dump_requests.py``).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError

npy: Any = np.lib.format  # numpy leaves these functions without types

PLAN_FILE = "_plan.json"  # of scores in parts (``dump_parts.py``), which are read as a dump
SECTIONS = ("ids", "outputs", "labels", "inputs")


class DumpFiles(ABC):
    """Writer of batches to a folder, one after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @abstractmethod
    def write(self, arrays: Arrays) -> None:
        """Adds rows of ``<section>/<tensor>`` arrays. Raises DataError if they don't continue the batches before."""

    @abstractmethod
    def close(self) -> None:
        """Completes the files."""


class NpyFiles(DumpFiles):
    """Writer of a file per tensor; the number of rows is written to its header at the end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tensors: dict[str, _NpyFile] = {}

    def write(self, arrays: Arrays) -> None:
        if not self._tensors:
            for key, array in arrays.items():
                section, name = key.split("/", 1)
                path = self._folder / section / f"{quote(name, safe='')}.npy"
                path.parent.mkdir(exist_ok=True)
                self._tensors[key] = _NpyFile(path, array)
        if arrays.keys() != self._tensors.keys():
            raise DataError(f"a batch holds {sorted(arrays)}, the batches before it {sorted(self._tensors)}")
        for key, array in arrays.items():
            self._tensors[key].append(key, array)

    def close(self) -> None:
        for tensor in self._tensors.values():
            tensor.close()


class _NpyFile:
    def __init__(self, path: Path, first: Array) -> None:
        if first.dtype.hasobject:
            raise DataError(f"{path.stem} holds Python objects, which npy files can't: use --dump-format json")
        self._dtype, self._row_shape, self._rows = first.dtype, first.shape[1:], 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def append(self, key: str, array: Array) -> None:
        if array.dtype != self._dtype or array.shape[1:] != self._row_shape:
            raise DataError(
                f"a batch of {key} is {array.dtype}{list(array.shape[1:])} a row, "
                f"the batches before it {self._dtype}{list(self._row_shape)}"
            )
        self._file.write(np.ascontiguousarray(array).data if array.size else b"")
        self._rows += len(array)

    def close(self) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()

    def _write_header(self) -> None:
        """Writes the header, which numpy pads so that its length does not depend on the number of rows."""
        header = {
            "descr": npy.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        npy.write_array_header_1_0(self._file, header)


class DumpSource(ABC):
    """Reader of a folder's batches: ``rows`` in total, with these ``sections``."""

    rows: int = 0
    sections: frozenset[str] = frozenset()

    @abstractmethod
    def chunks(self, rows: int) -> Iterator[Arrays]:
        """Yields consecutive rows of every ``<section>/<tensor>``, about ``rows`` at a time."""


class NpySource(DumpSource):
    """Reader of npy files. Raises DataError if a file isn't a complete npy file, or if files have unequal numbers of
    rows."""

    def __init__(self, folder: Path) -> None:
        self._tensors: dict[str, tuple[Path, int, np.dtype[Any], tuple[int, ...]]] = {}
        first, holds_bytes = "", False
        for section in SECTIONS:
            for path in sorted((folder / section).glob("*.npy")):
                key = f"{section}/{unquote(path.name.removesuffix('.npy'))}"
                start, dtype, shape = _read_npy_header(path)
                self._tensors[key] = (path, start, dtype, shape[1:])
                if not first:
                    first, self.rows = key, shape[0]
                if shape[0] != self.rows:
                    raise DataError(
                        f"dump {folder}: {key} has {shape[0]} rows, {first} has {self.rows}: make the dump again"
                    )
                holds_bytes = holds_bytes or math.prod(shape) * dtype.itemsize > 0
        if self.rows and not holds_bytes:
            raise DataError(f"dump {folder} tells of {self.rows} rows without any values: make the dump again")
        self.sections = frozenset(key.split("/", 1)[0] for key in self._tensors)

    def chunks(self, rows: int) -> Iterator[Arrays]:
        for start in range(0, self.rows, rows):
            count = min(rows, self.rows - start)
            yield {key: _read_npy_rows(*tensor, start, count) for key, tensor in self._tensors.items()}


def _read_npy_header(path: Path) -> tuple[int, np.dtype[Any], tuple[int, ...]]:
    """Offset of the data in bytes, its dtype and its shape."""
    try:
        with path.open("rb") as file:
            npy.read_magic(file)
            shape, fortran_order, dtype = npy.read_array_header_1_0(file)
            start = file.tell()
    except Exception as error:  # the header is a text of Python, for which numpy raises errors of many kinds
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} can't be read as a dump: {told}; make the dump again") from error
    size_bytes = math.prod(shape) * dtype.itemsize  # numpy's product has no more than 64 bits
    is_ours = not fortran_order and not dtype.hasobject and shape and min(shape) >= 0
    if not is_ours or path.stat().st_size != start + size_bytes:
        raise DataError(f"{path} is truncated or was not written as a dump: make the dump again")
    return start, dtype, shape


def _read_npy_rows(
    path: Path, data_start: int, dtype: np.dtype[Any], row_shape: tuple[int, ...], row: int, count: int
) -> Array:
    row_bytes = int(np.prod(row_shape, dtype=np.int64)) * dtype.itemsize
    with path.open("rb") as file:
        file.seek(data_start + row * row_bytes)
        return np.frombuffer(file.read(count * row_bytes), dtype).reshape(count, *row_shape)
