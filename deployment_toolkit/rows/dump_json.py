"""Writer and reader of dumps in JSON, the format of the original's dumps.

``<section>-<first row, 12 digits>.json`` holds ``{"data": [batch, batch, …]}``, and a batch is ``{tensor: {"content":
flat list, "shape": […], "dtype": name}}``. This project writes a file per section and batch, the original many batches
to a file, until it has 256 MB of arrays. The sections have the same files, and these the same batches.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.dump_files import SECTIONS, DumpFiles, DumpSource
from deployment_toolkit.rows.json_stream import JsonStream

_NAME = re.compile(rf"({'|'.join(SECTIONS)})-([0-9]{{12}})\.json")


class JsonFiles(DumpFiles):
    """Writer of a file per section and batch."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._rows = 0

    def write(self, arrays: Arrays) -> None:
        sections: dict[str, dict[str, Any]] = {}
        for key, array in arrays.items():
            section, name = key.split("/", 1)
            entry = {"content": array.reshape(-1).tolist(), "shape": list(array.shape), "dtype": str(array.dtype)}
            sections.setdefault(section, {})[name] = entry
        for section, tensors in sections.items():
            with (self._folder / f"{section}-{self._rows:012d}.json").open("w") as file:
                json.dump({"data": [tensors]}, file)
        self._rows += len(arrays["ids/ids"])

    def close(self) -> None:
        """Does nothing: every file is complete already."""


def is_json_dump_file(path: Path) -> bool:
    """True if a file has the name of a part of a JSON dump."""
    return _NAME.fullmatch(path.name) is not None


@dataclass(frozen=True)
class _Part:
    """File of a section."""

    path: Path
    section: str

    def batches(self) -> Iterator[Arrays]:
        """Its batches by ``<section>/<tensor>``, one in memory at a time. Raises DataError if it can't be read."""
        found = False
        try:
            with self.path.open(encoding="utf-8") as file:
                stream = JsonStream(file)
                for member in stream.members():
                    if member != "data":
                        stream.value()
                        continue
                    found = True
                    for _ in stream.items():
                        yield {f"{self.section}/{name}": _array(name, stream.value()) for name in stream.members()}
                stream.end()
            if not found:
                raise ValueError('it has no "data"')
        except (ValueError, TypeError, OverflowError, RecursionError, OSError) as error:
            raise _damaged(f"{self.path} can't be read as a dump: {error}") from error


class JsonSource(DumpSource):
    """Reader of JSON files, a batch at a time.

    Raises DataError if a section lacks a file, or if the last file of ids can't be read; while reading, if another file
    can't be read, if rows are missing, or if the batches of files differ in their number or rows, or from the batches
    before them in their tensors.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        parts: dict[int, list[_Part]] = {}
        for path in sorted(folder.iterdir(), key=lambda path: path.name):
            match = _NAME.fullmatch(path.name)
            if match:
                parts.setdefault(int(match[2]), []).append(_Part(path, match[1]))
        self._parts = dict(sorted(parts.items()))
        self.sections = frozenset(part.section for some in parts.values() for part in some)
        for row, some in self._parts.items():
            missing = sorted(self.sections - {part.section for part in some})
            if missing:
                raise _damaged(f"dump {folder}: {missing} of row {row} on are missing")
        for row, some in list(self._parts.items())[-1:]:
            ids = (part for part in some if part.section == "ids")
            self.rows = row + sum(_common_rows(batch, some) for part in ids for batch in part.batches())

    def chunks(self, rows: int) -> Iterator[Arrays]:
        """Yields the batches of the files; ``rows`` has no effect."""
        expected = 0
        first: Arrays = {}
        for row, parts in self._parts.items():
            if row != expected:
                raise _damaged(
                    f"dump {self._folder}: rows missing from {expected} on, or there twice: files of row {row} follow"
                )
            for arrays in _side_by_side(parts):
                expected += _common_rows(arrays, parts)
                first = first or arrays
                _require_same_tensors(arrays, first, parts)
                yield arrays


def _side_by_side(parts: list[_Part]) -> Iterator[Arrays]:
    """Batches of files of several sections, joined."""
    for number, batches in enumerate(zip_longest(*(part.batches() for part in parts))):
        ended = [part.path for part, batch in zip(parts, batches, strict=True) if batch is None]
        if ended:
            raise _damaged(f"{ended[0]} has {number} batches, other files of its rows have more")
        yield {name: array for batch in batches for name, array in batch.items()}


def _common_rows(arrays: Arrays, parts: list[_Part]) -> int:
    """Number of rows of every array. Raises DataError if they differ."""
    first, rows = "", 0
    for name, array in arrays.items():
        if array.ndim == 0:
            raise _damaged(f"{_path(name, parts)}: {name} has no rows, its shape is []")
        first, rows = (first, rows) if first else (name, len(array))
        if len(array) != rows:
            raise _damaged(f"{_path(name, parts)}: a batch has {len(array)} rows of {name}, and {rows} of {first}")
    return rows


def _require_same_tensors(arrays: Arrays, first: Arrays, parts: list[_Part]) -> None:
    """Raises DataError unless the arrays continue the first ones. Whole numbers may be of another size, strings too."""
    for name in (*arrays, *first):
        if name not in arrays or name not in first:
            raise _damaged(f"{_path(name, parts)}: {name} is not in every batch")
        (found, wanted) = (f"{array.dtype.kind}{list(array.shape[1:])}" for array in (arrays[name], first[name]))
        if found != wanted:
            raise _damaged(
                f"{_path(name, parts)}: a batch of {name} is {arrays[name].dtype}{list(arrays[name].shape[1:])} a row, "
                f"the batches before it {first[name].dtype}{list(first[name].shape[1:])}"
            )


def _path(name: str, parts: list[_Part]) -> Path:
    return next(part.path for part in parts if part.section == name.split("/", 1)[0])


def _array(name: str, entry: Any) -> Array:
    """The array of a tensor. Raises ValueError, TypeError or OverflowError for an entry that is none."""
    if not isinstance(entry, dict) or not {"content", "shape", "dtype"} <= entry.keys():
        raise ValueError(f"{name} is no tensor: it needs content, shape and dtype")
    content, dtype = entry["content"], np.dtype(entry["dtype"])
    if not isinstance(content, list):
        raise ValueError(f"{name} has no list of values")
    if dtype.kind == "U":  # one of letters by the million would take as much for each value
        longest = max((len(item) for item in content if isinstance(item, str)), default=0)
        dtype = np.dtype(f"U{max(1, min(longest, dtype.itemsize // 4))}")
    elif dtype.kind not in "biufO":
        raise ValueError(f"{name} is of dtype {dtype}, which no tensor has")
    array = np.array(content, dtype)
    # Without a word, numpy cuts off fractions and letters, and makes a number of what is missing.
    exact = array.tolist() == content if array.dtype.kind in "iubU" else None not in content
    if array.dtype.kind != "O" and not exact:
        raise ValueError(f"{name} holds values that are no {array.dtype}")
    return array.reshape(entry["shape"])


def _damaged(problem: str) -> DataError:
    return DataError(f"{problem}; make the dump again")
