"""Atomic writes: files and folders are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.errors import DataError

_calls = itertools.count(1)


@contextlib.contextmanager
def replace_when_complete(path: Path) -> Iterator[Path]:
    """Yields a free path next to ``path``, different for each call, for a new file or folder. It replaces ``path`` when
    the block ends without an error, else it is removed. Raises DataError if the folder above can't be written."""
    beside = _free_name(path, "partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        _put_in_place(beside, path)
    except OSError as error:
        ours = error.filename is not None and str(error.filename).startswith(str(path.parent))
        if not ours and error.errno not in (errno.ENOSPC, errno.EDQUOT):  # a full disk names no file
            raise
        raise DataError(f"{path} can't be written: {error.strerror}; choose another place or make room") from error
    finally:
        with contextlib.suppress(NotADirectoryError):  # the folder above is a file: reported already
            remove(beside)


def _free_name(path: Path, ending: str) -> Path:
    """Path next to ``path`` for this call only: several threads may write the same file at once."""
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_calls)}.{ending}")


def _put_in_place(beside: Path, path: Path) -> None:
    if not (beside.is_dir() and path.exists()):
        beside.replace(path)
        return
    aside = _free_name(path, "replaced")  # a folder can't be renamed over a full one
    path.replace(aside)
    try:
        beside.replace(path)
    except OSError:
        aside.replace(path)
        raise
    remove(aside)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replace_when_complete(path) as beside:
        beside.write_text(text)


def remove(path: Path) -> None:
    """Deletes a file or folder if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_free_space(folder: Path, needed_bytes: int, purpose: str) -> None:
    """Raises DataError if the disk that holds ``folder`` has less than ``needed_bytes`` free."""
    existing = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise DataError(
            f"{purpose} needs {needed_bytes / 2**30:.1f} GiB on the disk of {folder}, {free_bytes / 2**30:.1f} GiB "
            "are free: make room or choose another folder"
        )


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)
