"""Tables of a workflow: sorted arrays in npy files beside its pickle, mapped into memory.

All processes of a host that map the same files share one copy of them. A file is never written again once it is there:
a new table gets a new file, so that a mapping keeps its content.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.arrays import write_array

npy: Any = np.lib.format  # numpy leaves these functions without types

FOLDER = "tables"


class Tables:
    """Arrays by name: in memory while a workflow is made, mapped from ``<folder>/<name>.npy`` when it is used.

    A pickle holds the names alone in a workflow's file (``workflow_file``), which ``map`` follows. Another pickle, such
    as one for another process, holds arrays in memory whole, and of mapped ones the folder, whose files it maps.
    """

    def __init__(self, awaited: Iterable[str] = ()) -> None:
        self._arrays: dict[str, Array] = {}
        self._awaited = tuple(awaited)
        self._folder: Path | None = None

    @property
    def names(self) -> list[str]:
        """Names of all arrays, also of those that ``map`` is to bring."""
        return sorted({*self._arrays, *self._awaited})

    def __setitem__(self, name: str, array: Array) -> None:
        self._arrays[name] = array
        self._folder = None  # which has not this one

    def __getitem__(self, name: str) -> Array:
        """The array. Raises DataError if it is not mapped yet."""
        if name not in self._arrays and name in self._awaited:
            raise DataError(f"table {name} of this workflow is not mapped: read the workflow with load_workflow")
        return self._arrays[name]

    def remove(self, names: Iterable[str]) -> None:
        """Drops these arrays, if they are there."""
        for name in names:
            self._arrays.pop(name, None)

    def write(self, folder: Path) -> dict[str, str]:
        """Writes all arrays to a folder, which is made if it is missing; returns the SHA-256 of each by name."""
        folder.mkdir(exist_ok=True)
        sums = {}
        for name in self.names:
            path = table_path(folder, name)
            with path.open("xb") as file:
                write_array(file, self[name])
            sums[name] = fingerprint.of_path(path)
        return sums

    def map(self, folder: Path) -> None:
        """Maps the awaited arrays. Raises DataError, which names the file, if one is missing or no such array."""
        if not self._awaited:
            return
        self._folder = folder.resolve()
        self._arrays |= {name: _mapped(table_path(self._folder, name)) for name in self._awaited}
        self._awaited = ()

    def __getstate__(self) -> dict[str, Any]:
        if self._folder is None:
            return self.__dict__
        return {"_folder": self._folder, "_awaited": tuple(self.names), "_arrays": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._folder is not None:
            self.map(self._folder)


def table_path(folder: Path, name: str) -> Path:
    """File of a table."""
    return folder / f"{name}.npy"


def _mapped(path: Path) -> Array:
    try:
        return np.asarray(npy.open_memmap(path, mode="r"))
    except Exception as error:  # the header is a text of Python, for which numpy raises errors of many kinds
        told = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"table {path} can't be mapped: {told}; copy the whole workflow again") from error
