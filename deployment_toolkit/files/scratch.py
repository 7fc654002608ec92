"""Scratch names: hidden names of content that is not complete, and its removal after a process was killed.

``.<name>.<kernel>-<pid>-<number>.partial`` is the new file or folder ``<name>``, and the file beside it that ends in
``.lock`` holds the whole name. The kernel keeps this file locked as long as the process lives, so a lock that is free
is a killed process's. A file system of several hosts may not tell one about the locks of another, so there the kernel
must be ours.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import glob
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.endings.interrupts import interrupts_held
from deployment_toolkit.files.mounts import is_of_one_kernel

logger = logging.getLogger("files")

_NAME = re.compile(r"(\.(.*)\.([0-9a-f]{8})-[0-9]+-[0-9]+)\.(lock|partial|replaced|emptying|emptied)(\..*)?", re.DOTALL)
_UNFINISHED = ".unfinished"
_SYSTEM_NAMES = ("lost+found",)  # in a mounted disk, not of its users
_MOST_NAME_BYTES = 180  # of 255, so that the rest of the name fits
_UNKNOWN = "0" * 8
_NUMBER_BITS = 48  # random, so that in a shared folder nobody has put a link at the name
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Scratch:
    """Scratch names ``<stem>.<kind>`` in ``folder`` for the content ``name``, which goes beside them or, with
    ``fills``, into ``folder``."""

    folder: Path
    stem: str
    name: str
    fills: bool

    def path(self, kind: str) -> Path:
        """``lock``; ``partial``: the new content; ``replaced``, ``emptying``, ``emptied``: the earlier content, whole
        or on its way out or out of a folder that is filled."""
        return self.folder / f"{self.stem}.{kind}"

    @property
    def target(self) -> Path:
        """Place of the content."""
        return self.folder if self.fills else self.folder / self.name


@contextlib.contextmanager
def scratch_names(folder: Path, name: str, *, fills: bool = False) -> Iterator[Scratch]:
    """Yields new scratch names and removes what has them after the block; what can't be removed is logged. Raises
    OSError if ``folder`` can't be written."""
    scratch: Scratch | None = None
    try:
        try:
            with interrupts_held():  # a lock that nobody knows yet nobody would remove
                stem, lock = _locked(folder, name)
                scratch = Scratch(folder, stem, name, fills)
            os.write(lock, os.fsencode(f"{name}\0{'fills' if fills else ''}"))
            yield scratch
        finally:
            if scratch is not None:
                _remove(scratch)
    finally:
        if scratch is not None:
            _remove(scratch)  # again, if an interrupt broke it off
            os.close(lock)


def entries(folder: Path) -> list[Path]:
    """What a folder holds for its users: without scratch names, unfinished work and what a file system keeps in its top
    folder."""
    unfinished = unfinished_name(folder.resolve().name)
    return [
        item
        for item in sorted(folder.iterdir())
        if not _NAME.fullmatch(item.name) and item.name not in (*_SYSTEM_NAMES, unfinished)
    ]


def unfinished_name(name: str) -> str:
    """Name of the folder of unfinished work for the output ``name``, beside it or, if that is a folder that is filled,
    in it. A command that goes on with its work finds it by this name."""
    return f".{name}{_UNFINISHED}"


def final_name(path: Path) -> str:
    """Name that new content at ``path`` will have: its own, unless that is a scratch name."""
    match = _NAME.fullmatch(path.name)
    return path.name if match is None else _read(path.parent, match[1]).name


def put_in_place(scratch: Scratch) -> None:
    """Moves the complete content to its target; a file or folder there is replaced. Files whose names begin with the
    content's (``<partial>.data``) are moved before it, to ``<target>.data``. Raises OSError; then an earlier file or
    folder is still there."""
    made, aside, target = scratch.path("partial"), scratch.path("replaced"), scratch.target
    for part in sorted(scratch.folder.glob(f"{glob.escape(made.name)}.*")):
        part.replace(target.with_name(target.name + part.name.removeprefix(made.name)))
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


def fill(scratch: Scratch) -> None:
    """Moves what is in the complete folder into the target, a folder whose entries are replaced. Raises OSError; then
    the earlier entries are still there."""
    made, target = scratch.path("partial"), scratch.target
    emptying, emptied = scratch.path("emptying"), scratch.path("emptied")
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
    """Removes what killed processes left in ``folder``, after it has finished a replacement that such a process had
    begun; one line of the log names it. What may still be in use stays."""
    with contextlib.ExitStack() as stack:
        locks: list[Path] = []
        with contextlib.suppress(OSError):  # of a folder that this user may write and not read
            locks = sorted(folder.glob(".*.lock"))
        stems = [path.name.removesuffix(".lock") for path in locks if _may_judge(path) and _taken_over(path, stack)]
        gone = [stem for stem in stems if _remove(_read(folder, stem))]
    if gone:
        told = ", ".join(str(folder / f"{stem}.partial") for stem in gone)
        logger.warning("removed what a killed process had left: %s", told)


def remove_unfinished(folder: Path) -> None:
    """Removes all with scratch names from a folder whose content is complete, also of processes that live or are on
    another host: nobody needs what they make there any more."""
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    stems = sorted({match[1] for match in found if match})
    # Without a name: a replacement that was broken off is not to be ended.
    gone = [stem for stem in stems if _remove(Scratch(folder, stem, name="", fills=False))]
    if gone:
        told = ", ".join(str(folder / f"{stem}.partial") for stem in gone)
        logger.warning("removed what nobody will complete: %s", told)


@functools.cache
def kernel_id() -> str:
    """First letters of the running kernel's id, which is new at each boot; the same in all containers on it."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text()[:8]
    return _UNKNOWN


def _may_judge(lock: Path) -> bool:
    match = _NAME.fullmatch(lock.name)
    return match is not None and (match[3] == kernel_id() != _UNKNOWN or is_of_one_kernel(lock.parent))


def _locked(folder: Path, name: str) -> tuple[str, int]:
    """A new stem, and its open lock."""
    short = os.fsencode(name)[:_MOST_NAME_BYTES].decode(errors="ignore")
    while True:
        stem = f".{short}.{kernel_id()}-{os.getpid()}-{secrets.randbits(_NUMBER_BITS)}"
        path = folder / f"{stem}.lock"
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue  # of a process with the same number in another container
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_open(path, lock):
            os.set_inheritable(lock, True)  # a program that takes this process's place keeps it locked
            return stem, lock
        os.close(lock)  # another process has just taken it for a killed one's


def _is_open(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except OSError:
        return False


def _taken_over(path: Path, stack: contextlib.ExitStack) -> bool:
    """True if the lock's process is gone; then this process holds it, until ``stack`` is left. A lock of another user
    is not judged, even by root: it says where its content is to be put."""
    try:
        lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False  # just removed, or another user's
    stack.callback(os.close, lock)
    found = os.fstat(lock)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _is_open(path, lock)


def _read(folder: Path, stem: str) -> Scratch:
    """The scratch names of a lock; without a name if the process was killed before it had written that."""
    text = (folder / f"{stem}.lock").read_bytes()
    name, _, fills = os.fsdecode(text).partition("\0")
    return Scratch(folder, stem, name, bool(fills))


def _remove(scratch: Scratch) -> bool:
    """Removes everything with scratch names; true if it is gone. Nothing is raised, so that the error of a block is
    seen."""
    lock = scratch.path("lock")
    if not scratch.name or _finish(scratch):
        for path in scratch.folder.glob(f"{glob.escape(scratch.stem)}.*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock:
                with contextlib.suppress(OSError):
                    path.unlink()
    left = [path for path in scratch.folder.glob(f"{glob.escape(scratch.stem)}.*") if path != lock]
    for path in left:
        logger.warning("%s can't be removed: look into it and do it by hand", path)
    if not left:  # the last, so that the rest of a removal that is broken off is found
        with contextlib.suppress(OSError):
            lock.unlink()
    return not left


def _finish(scratch: Scratch) -> bool:
    """Ends a replacement that was broken off: forward if the earlier content was out, else back. False if it can't."""
    made, target = scratch.path("partial"), scratch.target
    try:
        if scratch.path("replaced").exists() and made.exists() and not target.exists():
            made.replace(target)
        moving = made if scratch.path("emptied").exists() else scratch.path("emptying")
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
