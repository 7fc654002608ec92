"""Scratch folders: hidden folders for content that is not complete, and their removal after a process was killed.

``.<name>.<kernel>-<pid>-<number>.partial`` holds the new file or folder ``<name>``, and ``.lock`` with the whole name.
The kernel keeps that file locked as long as the process lives; so a folder whose lock is free is a killed process's.
A file system of several hosts may not tell one about the locks of another, so there the folder's kernel must be ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import glob
import itertools
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.files.mounts import is_of_one_kernel

logger = logging.getLogger("files")

_NAME = re.compile(r"\.(.*)\.([0-9a-f]{8})-[0-9]+-[0-9]+\.partial", re.DOTALL)
_LOCK, _FILLS = ".lock", "fills"
_REPLACED, _EMPTYING, _EMPTIED = ".replaced", ".emptying", ".emptied"  # earlier content, on its way out
_SYSTEM_NAMES = ("lost+found",)  # in a mounted disk, not of its users
_MOST_NAME_BYTES = 180  # of 255, so that the rest of the name fits
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_calls = itertools.count(1)


@contextlib.contextmanager
def scratch_folder(folder: Path, name: str, *, fills: bool = False) -> Iterator[Path]:
    """Yields a new scratch folder in ``folder`` for the content ``name``, which goes beside it or, with ``fills``, into
    ``folder``; removes it after the block. A folder that can't be removed is logged. Raises OSError if it can't be
    made."""
    path, lock = _make(folder, name)
    try:
        os.write(lock, os.fsencode(f"{name}\0{_FILLS if fills else ''}"))
        yield path
    finally:
        _remove(path)
        os.close(lock)


def entries(folder: Path) -> list[Path]:
    """What a folder holds for its users: without scratch folders and what a file system keeps in its top folder."""
    return [item for item in sorted(folder.iterdir()) if not is_scratch(item) and item.name not in _SYSTEM_NAMES]


def is_scratch(path: Path) -> bool:
    """True for the path of a scratch folder."""
    return _NAME.fullmatch(path.name) is not None


def put_in_place(scratch: Path, target: Path) -> None:
    """Moves the complete content of a scratch folder to ``target``, next to it; a file or folder there is replaced.
    Files whose names begin with the content's (``model.onnx.data``) are moved before it. Raises OSError; then an
    earlier file or folder is still there."""
    made, aside = scratch / target.name, scratch / _REPLACED
    for part in sorted(scratch.glob(f"{glob.escape(made.name)}.*")):
        part.replace(target.with_name(part.name))
    if not (made.is_dir() and target.exists()):
        made.replace(target)
        return
    try:
        target.replace(aside)  # a folder can't be renamed over a full one
        made.replace(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.replace(target)
        raise


def fill(scratch: Path, target: Path) -> None:
    """Moves what is in the complete folder of a scratch folder into the folder ``target``, whose entries are replaced.
    Raises OSError; then the earlier entries are still there."""
    made, emptying, emptied = scratch / target.name, scratch / _EMPTYING, scratch / _EMPTIED
    if not made.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    emptying.mkdir()
    moved: list[Path] = []
    try:
        for item in entries(target):
            _move(item, emptying / item.name)
        emptying.rename(emptied)
        for item in sorted(made.iterdir()):
            moved.append(item)
            _move(item, target / item.name)
    except BaseException:
        for item in moved:
            if (target / item.name).exists():
                _move(target / item.name, item)
        if emptied.exists():
            emptied.rename(emptying)
        _finish(scratch)
        raise


def remove_left(folder: Path) -> None:
    """Removes the scratch folders in ``folder`` whose process was killed, after it has finished a replacement that such
    a process had begun; one line of the log names them. What may still be in use stays."""
    with contextlib.ExitStack() as stack:
        found: list[Path] = []
        with contextlib.suppress(OSError):  # of a folder that this user may write and not read
            found = sorted(filter(is_scratch, folder.iterdir()))
        gone = [path for path in found if _may_judge(path) and _taken_over(path, stack) and _remove(path)]
    if gone:
        logger.warning("removed what a killed process had left: %s", ", ".join(map(str, gone)))


@functools.cache
def _kernel() -> str:
    """First letters of the running kernel's id; the same in all containers on it."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text()[:8]
    return "0" * 8


def _may_judge(scratch: Path) -> bool:
    match = _NAME.fullmatch(scratch.name)
    return match is not None and (match[2] == _kernel() or is_of_one_kernel(scratch.parent))


def _make(folder: Path, name: str) -> tuple[Path, int]:
    short = os.fsencode(name)[:_MOST_NAME_BYTES].decode(errors="ignore")
    while True:
        path = folder / f".{short}.{_kernel()}-{os.getpid()}-{next(_calls)}.partial"
        try:
            path.mkdir()
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # a process with the same number in another container
        except FileNotFoundError:
            if not folder.is_dir():
                raise
            continue  # taken for a killed process's
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_open(path / _LOCK, lock):
            return path, lock
        os.close(lock)


def _is_open(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except OSError:
        return False


def _taken_over(path: Path, stack: contextlib.ExitStack) -> bool:
    """True if the folder's process is gone; then this process holds the lock, until ``stack`` is left."""
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        with contextlib.suppress(OSError):
            path.rmdir()  # killed before it had made the lock; a living process makes another folder
        return False
    except OSError:
        return False  # another user's
    stack.callback(os.close, lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _is_open(path / _LOCK, lock)


def _remove(scratch: Path) -> bool:
    """Removes a scratch folder; true if it is gone. Nothing is raised, so that the error of a block is seen."""
    if _finish(scratch):
        with contextlib.suppress(OSError):
            for item in scratch.iterdir():
                if item.is_dir() and not item.is_symlink():
                    shutil.rmtree(item, ignore_errors=True)
        shutil.rmtree(scratch, ignore_errors=True)  # the lock last: the rest of a removal that is broken off is found
    gone = not scratch.exists()
    if not gone:
        logger.warning("%s can't be removed: look into it and do it by hand", scratch)
    return gone


def _finish(scratch: Path) -> bool:
    """Ends a replacement that was broken off: forward if the earlier content was out, else back. False if it can't."""
    try:
        name, _, fills = os.fsdecode((scratch / _LOCK).read_bytes()).partition("\0")
        if not name:
            return True  # killed before it had written anything
        made, target = scratch / name, scratch.parent if fills else scratch.with_name(name)
        if (scratch / _REPLACED).exists() and made.exists() and not target.exists():
            made.replace(target)
        moving = made if (scratch / _EMPTIED).exists() else scratch / _EMPTYING
        for item in moving.iterdir() if moving.is_dir() else ():
            _move(item, target / item.name)
    except OSError:
        return False
    return True


def _move(source: Path, target: Path) -> None:
    """Renames, or copies what can't be renamed: a folder of a container's image."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.move(source, target)
