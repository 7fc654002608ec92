"""Tables of ads and documents as memory-mapped files, so that all processes of a host share one copy.

A folder for each table: ``ids.npy``, ascending, each once; ``<column>.npy``, their values; ``defaults.json``, the
values of unknown ids.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Array
from deployment_toolkit.files.arrays import write_array
from deployment_toolkit.files.atomic import replace_when_complete
from widedeep.preprocessing.documents import IdIndex, LookupTable, read_ads, read_documents_meta
from widedeep.preprocessing.raw_files import RawDir

_ADS, _META = "ads", "documents_meta"
_IDS, _DEFAULTS = "ids.npy", "defaults.json"


def write_lookups(raw_dir: RawDir, folder: Path) -> None:
    """Task: reads the tables of ads and documents, and writes them to a new folder. Raises DataError if one can't be
    read."""
    with replace_when_complete(folder) as beside:
        beside.mkdir()
        for name, table in ((_ADS, read_ads(raw_dir)), (_META, read_documents_meta(raw_dir))):
            _write(table, beside / name)


def mapped_lookups(folder: Path) -> tuple[LookupTable, LookupTable]:
    """The tables of ads and of documents in a folder, mapped. Each task maps them anew: over NFS, a folder can't be
    removed as long as a process maps a file of it, nor may a process read a file that another host has removed."""
    return _mapped(folder / _ADS), _mapped(folder / _META)


def _write(table: LookupTable, folder: Path) -> None:
    folder.mkdir()
    ids = table.index.ids
    columns = {f"{name}.npy": values for name, values in table.find(ids).items()}
    for name, values in {_IDS: ids, **columns}.items():
        with (folder / name).open("wb") as file:
            write_array(file, values)
            file.flush()
            os.fsync(file.fileno())
    (folder / _DEFAULTS).write_text(json.dumps(table.defaults))


def _mapped(folder: Path) -> LookupTable:
    defaults = json.loads((folder / _DEFAULTS).read_text())
    columns = {name: _array(folder / f"{name}.npy") for name in defaults}
    return LookupTable(IdIndex.of_sorted(_array(folder / _IDS)), columns, defaults)


def _array(path: Path) -> Array:
    return np.asarray(np.load(path, mmap_mode="r"))  # without the class of mapped arrays, which is slow
