"""Shared memory of Triton's Python backend, for tests that check that nothing remains."""

from __future__ import annotations

import re
from collections.abc import Iterable

import psutil

from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself

_PREFIX = re.compile(r"^(triton_[0-9a-f]{32}_).*$")


def regions() -> set[str]:
    """Names of the regions of all servers on this machine."""
    return {path.name for path in SHARED_MEMORY.glob("triton_*")}


def left_by_measurements(*prefixes: str) -> list[str]:
    """Names of regions with these prefixes while no measurement runs on this machine. Tests that run at the same time
    measure too, and perf_analyzer names its regions only after the model's tensors."""
    with machine_to_itself():
        return sorted(path.name for path in SHARED_MEMORY.iterdir() if path.name.startswith(prefixes))


def orphaned(names: Iterable[str]) -> list[str]:
    """Names that belong to no running server. Its processes mention a region, or the prefix of its regions: also of one
    whose process was killed."""
    return [name for name in names if not processes_with(_PREFIX.sub(r"\1", name))]


def processes_with(text: str) -> list[str]:
    """Command lines of the processes that mention the text."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if text in line]
