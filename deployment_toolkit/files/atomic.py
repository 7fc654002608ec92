"""Atomic writes: files and folders are either complete or absent."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.errors import DataError, DeploymentError, host_problem
from deployment_toolkit.files.place import Place, find_place, unwritable
from deployment_toolkit.files.scratch import fill, put_in_place, remove_left, scratch_names

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # such an error names no file
_CANT_RENAME = (errno.EXDEV, errno.EBUSY)  # a folder of a container's image; one that another process has mounted


@contextlib.contextmanager
def replace_when_complete(path: Path, *, replaces_all: bool = False) -> Iterator[Path]:
    """Yields a free hidden path on the disk of ``path``, different for each call, for a new file or folder. It replaces
    ``path`` when the block ends without an error, else it is removed. What the block makes beside it under a name that
    begins with its own (``<beside>.data``) is put beside ``path`` likewise.

    A link is followed. A folder that can't be renamed, as a mount point, is filled: it must be empty, or with
    ``replaces_all`` its content is replaced. What killed processes left there is removed. Raises DataError if ``path``
    can't be written: at once, as far as can be told.
    """
    place = find_place(path, replaces_all=replaces_all)
    with _told(path, place), contextlib.ExitStack() as stack:
        remove_left(place.scratch_folder)
        scratch = stack.enter_context(scratch_names(place.scratch_folder, place.path.name, fills=place.is_filled))
        yield scratch.path("partial")
        try:
            (fill if place.is_filled else put_in_place)(scratch)
        except OSError as error:
            if place.is_filled or error.errno not in _CANT_RENAME or not place.path.is_dir():
                raise
            fill(scratch)


def require_writable(path: Path) -> None:
    """Raises DataError if ``replace_when_complete`` could not write ``path``: before the work whose result it takes."""
    place = find_place(path, replaces_all=False)
    with _told(path, place), scratch_names(place.scratch_folder, place.path.name):
        pass


@contextlib.contextmanager
def _told(path: Path, place: Place) -> Iterator[None]:
    """Converts errors of writing ``path`` to DataError; others pass."""
    try:
        yield
    except DeploymentError:
        raise
    except OSError as error:
        file = str(error.filename or "")
        is_ours = file.startswith(f"{place.scratch_folder}/.") or file == str(place.path)
        if not (is_ours or error.errno in _FULL):
            raise
        raise DataError(unwritable(path, error)) from error
    except Exception as error:
        problem = host_problem(error)
        if problem is None:
            raise
        raise DataError(f"{path} can't be written: {problem}") from error


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with replace_when_complete(path) as beside:
        beside.write_text(text)


def share(source: Path, target: Path) -> None:
    """Puts a file or folder at another place: as links to the same content, else as a copy. For content that nobody
    changes in place. Raises DataError if ``target`` can't be written."""

    def link(name: str, beside: str) -> None:
        try:
            os.link(name, beside)
        except OSError:  # another disk, or a file system without links
            shutil.copy2(name, beside)

    with replace_when_complete(target, replaces_all=True) as new:
        if source.is_dir():
            shutil.copytree(source, new, copy_function=link)
        else:
            link(str(source), str(new))


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
            f"{purpose} needs {size_words(needed_bytes)} on the disk of {folder}, {size_words(free_bytes)} are free: "
            f"make room for {size_words(needed_bytes - free_bytes)} more or choose another folder"
        )


def size_words(count: int) -> str:
    """A number of bytes for people: ``1.2 GiB``, ``340.0 MiB``, ``17 bytes``."""
    for exponent, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << exponent:
            return f"{count / (1 << exponent):.1f} {unit}"
    return f"{count} bytes"


def size_bytes(path: Path) -> int:
    """Size of a file, or of all files in a folder."""
    files = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
    return sum(item.stat().st_size for item in files)
