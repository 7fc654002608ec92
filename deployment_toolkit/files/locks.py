"""Locks on files, between processes."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from typing import IO


def hold_lock(file: int | IO[str], on_wait: Callable[[], None]) -> None:
    """Locks an open file until it is closed. If another process has the lock, calls ``on_wait`` once and waits."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        on_wait()
        fcntl.flock(file, fcntl.LOCK_EX)
