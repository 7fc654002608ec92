"""Memory of a running process and all that it has started."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

_KIB = 1024


@dataclass(frozen=True)
class TreeMemory:
    """Bytes held by ``processes`` processes. ``pss_bytes``: each page divided among the processes that have it, so that
    the sum counts it once (the proportional set size, proc(5)); ``private_bytes``: pages that no other process has."""

    processes: int
    pss_bytes: int
    private_bytes: int


def tree_memory(pid: int, *, skip_forbidden: bool = False) -> TreeMemory:
    """What the process ``pid``, its children and theirs hold now. A process that ends while it is looked at counts
    nothing; with ``pid`` gone all are 0. Another user's processes count nothing either with ``skip_forbidden``, else
    they raise PermissionError."""
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
    """The process ``pid``, its children and theirs; those that are there."""
    try:
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)
    except psutil.NoSuchProcess:
        return


def peak_rss_bytes(pid: int) -> int:
    """The most memory that this one process has had resident so far, its program's alone: unlike ``ru_maxrss``, which
    starts at what the process that started it had. 0 if it is gone."""
    return _read_fields(Path(f"/proc/{pid}/status")).get("VmHWM", 0)


def _read_fields(path: Path) -> dict[str, int]:
    """The sizes of a file of /proc in bytes, by their names; none if the process is gone or a zombie."""
    try:
        lines = path.read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    parts = [line.split() for line in lines]
    return {part[0].rstrip(":"): int(part[1]) * _KIB for part in parts if len(part) == 3 and part[2] == "kB"}
