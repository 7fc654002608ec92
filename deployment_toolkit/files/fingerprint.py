"""Fingerprints that change with the content: SHA-256 of files, folders and arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Arrays


def of_path(path: Path) -> str:
    """Hex digest of a file's content, or of the relative paths and contents of a folder's files; names above ``path``,
    times and empty folders don't count. About 1.5 GB/s. Raises OSError if it can't be read."""
    if path.is_file():
        return _of_file(path)
    digest = hashlib.sha256(b"folder\n")
    for file in sorted(item for item in path.rglob("*") if item.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{_of_file(file)}\n".encode())
    return digest.hexdigest()


def of_batches(batches: Sequence[Arrays]) -> str:
    """Hex digest of names, dtypes, shapes and values, in the order of the batches."""
    digest = hashlib.sha256()
    for batch in batches:
        for name, array in sorted(batch.items()):
            digest.update(f"{name}\0{array.dtype}\0{array.shape}\n".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
