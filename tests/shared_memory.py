"""What Triton's Python backend leaves in shared memory, for tests that see that nothing is left."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from deployment_toolkit.machine import SHARED_MEMORY


def regions() -> set[str]:
    """Names of the regions of all servers on this machine."""
    return {path.name for path in SHARED_MEMORY.glob("triton_*")}


def orphaned(names: Iterable[str]) -> list[str]:
    """Those that no process mentions; a region of a running server has one that does."""
    return [name for name in names if not processes_with(name)]


def processes_with(text: str) -> list[str]:
    """Command lines of the processes that mention it."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if text in line]
