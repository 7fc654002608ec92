"""Lock and shared memory of a measurement: two measurements on a machine would disturb each other, and perf_analyzer
names its shared memory only after the model's tensors."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.files.locks import hold_lock, lock_holder
from deployment_toolkit.machine import SHARED_MEMORY

logger = logging.getLogger("performance")


@contextlib.contextmanager
def machine_to_itself() -> Iterator[None]:
    """Waits, with one log message, until no other measurement runs on this machine, of this user or another; the next
    one waits until the block is left. Raises PerformanceError if the machine has no shared memory.

    The lock is on the folder of the shared memory itself: everybody may open it, and nobody but root can put something
    else in its place.
    """
    try:
        folder = os.open(SHARED_MEMORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PerformanceError(
            f"{SHARED_MEMORY} can't be opened ({error.strerror}), through which measurements take turns: mount it there"
        ) from error
    try:
        hold_lock(
            folder,
            lambda: logger.info(
                "another measurement runs on this machine%s, waiting for it to end (lock on %s)",
                _said(lock_holder(folder)),
                SHARED_MEMORY,
            ),
        )
        yield
    finally:
        os.close(folder)


def _said(holder: int | None) -> str:
    if holder is None:
        return ""
    try:
        return f" (process {holder} of user {Path(f'/proc/{holder}').stat().st_uid})"
    except OSError:  # it has just ended
        return ""


@contextlib.contextmanager
def no_shared_memory_left(inputs: Iterable[str], outputs: Iterable[str], *, owner: int | None = None) -> Iterator[None]:
    """Removes shared memory that perf_analyzer left: regions that appeared during the block and have its names, an
    output's name or ``<input>_<stream>_<step>``. Only safe while no other measurement runs.

    Raises PerformanceError if there is a region of these names already that does not belong to the user ``owner``, who
    would write his rows into it.
    """
    before, left = _regions(), region_pattern(inputs, outputs)
    in_the_way = None if owner is None else _foreign(left, owner)
    if in_the_way is not None:
        raise PerformanceError(in_the_way)
    try:
        yield
    finally:
        for name in sorted(_regions() - before):
            if left.fullmatch(name):
                logger.debug("removing %s, which perf_analyzer left behind", SHARED_MEMORY / name)
                (SHARED_MEMORY / name).unlink(missing_ok=True)


def region_pattern(inputs: Iterable[str], outputs: Iterable[str]) -> re.Pattern[str]:
    """Pattern of the names of perf_analyzer's regions for these tensors."""
    names = [f"{re.escape(region_name(name))}_[0-9]+_[0-9]+" for name in inputs]
    names += [re.escape(region_name(name)) for name in outputs]
    return re.compile("|".join(names))


def region_name(tensor: str) -> str:
    """Tensor name in the name of a region: perf_analyzer drops slashes."""
    return re.sub(r"[/\\]", "", tensor)


def _regions() -> set[str]:
    return {path.name for path in SHARED_MEMORY.iterdir()} if SHARED_MEMORY.is_dir() else set()


_SERVER_REFUSED = "unable to open shared memory region"  # Triton's message; later versions add the reason
_CLIENT_REFUSED = "unable to get shared memory descriptor"  # perf_analyzer's message


def region_remedy(reason: str, names: re.Pattern[str], client_uid: int) -> str | None:
    """Remedy for a measurement of the user ``client_uid`` that failed for ``reason``, None if shared memory is not the
    cause. ``names`` matches perf_analyzer's regions. Call it when perf_analyzer has ended and its regions are
    removed."""
    server_refused = _SERVER_REFUSED in reason.lower()
    if not server_refused and _CLIENT_REFUSED not in reason.lower():
        return None
    in_the_way = _foreign(names, client_uid)
    if in_the_way is not None:
        return in_the_way
    if not server_refused:
        return f"let user {client_uid} write to {SHARED_MEMORY}, or use --evaluation-mode online"
    return (
        f"the server may not open the shared memory of user {client_uid}, or does not see this host's: as root give "
        "--client-user UID:GID, the user of the server's container; start that container with --ipc host; or use "
        "--evaluation-mode online"
    )


def _foreign(names: re.Pattern[str], client_uid: int) -> str | None:
    """Message about a region of these names that is not the user's, None if there is none."""
    for path in sorted(SHARED_MEMORY.iterdir()):
        with contextlib.suppress(FileNotFoundError):
            if names.fullmatch(path.name) and path.lstat().st_uid != client_uid:
                owner = path.lstat().st_uid
                return f"{path} of user {owner} is in the way, left by a measurement that was killed: remove it"
    return None
