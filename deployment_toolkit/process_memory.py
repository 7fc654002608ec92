"""Memory of a running process and all its descendants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_KIB = 1024


@dataclass(frozen=True)
class TreeMemory:
    """Bytes held by ``processes`` processes. ``pss_bytes``: each page is divided among the processes that have it, so
    that the sum counts it once (the proportional set size, proc(5)); ``private_bytes``: pages of one process only."""

    processes: int
    pss_bytes: int
    private_bytes: int


def tree_memory(pid: int, *, skip_forbidden: bool = False) -> TreeMemory:
    """Memory of the process ``pid`` and all its descendants now. A process that ends meanwhile counts 0; if ``pid`` is
    gone, all values are 0. Another user's processes raise PermissionError, or with ``skip_forbidden`` count 0."""
    readings = []
    for process in process_tree(pid):
        with contextlib.suppress(PermissionError) if skip_forbidden else contextlib.nullcontext():
            if reading := _read_fields(Path(f"/proc/{process.pid}/smaps_rollup")):
                readings.append(reading)
    return TreeMemory(
        processes=len(readings),
        pss_bytes=sum(reading["Pss"] for reading in readings),
        private_bytes=sum(reading["Private_Clean"] + reading["Private_Dirty"] for reading in readings),
    )


def process_tree(pid: int) -> Iterator[psutil.Process]:
    """Yields the process ``pid`` and its descendants that exist."""
    try:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def peak_rss_bytes(pid: int) -> int:
    """Peak resident memory of this one process so far, of its program only: ``ru_maxrss`` starts at the value of the
    process that started it. 0 if the process is gone."""
    return _read_fields(Path(f"/proc/{pid}/status")).get("VmHWM", 0)


def _read_fields(path: Path) -> dict[str, int]:
    """Sizes in a file of /proc in bytes, by name; empty if the process is gone or a zombie."""
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    parts = [line.split() for line in lines]
    return {part[0].rstrip(":"): int(part[1]) * _KIB for part in parts if len(part) == 3 and part[2] == "kB"}
