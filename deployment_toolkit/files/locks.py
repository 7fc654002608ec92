"""Locks on files, between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from deployment_toolkit.errors import DataError, UsageError

logger = logging.getLogger("files")


def hold_lock(file: int, on_wait: Callable[[], None]) -> None:
    """Locks an open file until it is closed. If another process has the lock, calls ``on_wait`` once and waits."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(file, fcntl.LOCK_EX)


@contextlib.contextmanager
def sole_user(folder: Path, other: str, remedy: str) -> Iterator[None]:
    """Keeps other processes that do the same out of a folder, until the block is left; a killed process leaves no lock.

    Raises UsageError at once, which says what ``other`` is at work there and the ``remedy``, if another process has
    the lock; OSError if the folder can't be opened. On a file system without locks only a warning is logged.
    """
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = lock_holder(file)
            by = "" if holder is None else f" (process {holder})"
            raise UsageError(f"{other}{by}: {remedy}") from error
        except OSError:
            logger.warning("the file system of %s has no locks: see to it that no other command works there", folder)
        yield
    finally:
        os.close(file)


def open_lock_file(path: Path) -> int:
    """Opens the empty file of a lock, which is made if it isn't there; it may be another user's. Raises DataError if
    something else has its name, as a link or a pipe, OSError if it can't be made."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # without waiting for the other end of a pipe
    try:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
        except PermissionError:
            file = os.open(path, os.O_RDONLY | flags)  # enough for a lock, but not over NFS
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise DataError(_not_a_lock(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise DataError(_not_a_lock(path))
    return file


def _not_a_lock(path: Path) -> str:
    return f"{path} is not a plain file, as a lock has to be: find out who put it there, and remove it"


def lock_holder(file: int) -> int | None:
    """Id of the process that has locked this open file; None if there is none that this process can see. Source:
    proc_locks(5)."""
    found = os.fstat(file)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()  # of a process that waits, the second is "->"
            if fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
                return int(fields[4])
    return None
