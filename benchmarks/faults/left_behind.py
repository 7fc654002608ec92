"""What is still there after a program has ended: processes, and shared memory that nobody uses."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from deployment_toolkit.process import environment

MARK = "FAULTS_CAMPAIGN"
_SHARED_MEMORY = Path("/dev/shm")
_OURS = re.compile(r"triton_.+|.+_[0-9]+_[0-9]+")  # the Python backend's regions, perf_analyzer's


def marked_environment(mark: str) -> dict[str, str]:
    """Environment for child processes; their own children inherit the mark, by which they are found."""
    return {**environment(prepend={}), MARK: mark}


def marked_processes(env: Mapping[str, str]) -> list[psutil.Process]:
    """Processes with the mark of this environment that run."""
    return [process for process in psutil.process_iter() if _has_mark(process, env[MARK])]


def _has_mark(process: psutil.Process, mark: str) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == mark)
    return False


def wait_for_ends(env: Mapping[str, str], patience_s: float) -> list[str]:
    """Command lines of the marked processes that still run after ``patience_s``; they are killed."""
    deadline = time.monotonic() + patience_s
    while (left := marked_processes(env)) and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = []
    for process in left:
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline())[:120])
            process.kill()
    return lines


def shared_memory() -> set[str]:
    """Names in /dev/shm."""
    return {path.name for path in _SHARED_MEMORY.iterdir()}


def unused_shared_memory(before: set[str], patience_s: float = 10.0) -> list[str]:
    """New names of servers and measurements in /dev/shm that no process has mapped or open, also after
    ``patience_s``: programs beside the campaign may be about to remove theirs."""
    deadline = time.monotonic() + patience_s
    while True:
        new = {name for name in shared_memory() - before if _OURS.fullmatch(name)}
        unused = sorted(new - set(_used(new))) if new else []
        if not unused or time.monotonic() > deadline:
            return unused
        time.sleep(0.2)


def _used(names: set[str]) -> Iterator[str]:
    places = {str(_SHARED_MEMORY / name): name for name in names}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for line in (folder / "maps").read_text(errors="replace").splitlines():
                if line[-1:] and (name := places.get(line.split(maxsplit=5)[-1])):
                    yield name
        with contextlib.suppress(OSError):
            for link in (folder / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if name := places.get(str(link.readlink())):
                        yield name
