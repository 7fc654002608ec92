"""What processes of this machine share: its cores, the loopback address, and memory that is seen as files."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Iterator
from pathlib import Path

LOOPBACK = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")  # of this machine alone, gone when it ends

_GROUPS, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def is_loopback(host: str) -> bool:
    """True if an address or a name is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


def usable_cores() -> int:
    """Cores that this process has: those on which it may run, or fewer in a container with a limit of CPU time. A part
    of a core counts as one. The C++ host counts alike (``cores.cpp``)."""
    limits = (limit for path in _limit_files() if (limit := _limit(*path)) is not None)
    return max(1, math.ceil(min([len(os.sched_getaffinity(0)), *limits])))


def limited_cores() -> int | None:
    """``usable_cores`` if a limit of CPU time makes them fewer than those on which this process may run, which is what
    runtimes count; else None."""
    cores = usable_cores()
    return cores if cores < len(os.sched_getaffinity(0)) else None


def _limit_files() -> Iterator[tuple[Path, ...]]:
    """Files of the limits of this process's control groups, version 2 (``cpu.max``) or 1 (quota and period); some don't
    exist. Source: cgroups(7). In a container the group's files are at the top, whatever its path."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return
    for line in lines:  # number:controllers:path
        _, _, controllers_and_path = line.partition(":")
        controllers, _, path = controllers_and_path.partition(":")
        if not path or (controllers and "cpu" not in controllers.split(",")):
            continue
        for top in (_MOUNT / controllers, _MOUNT / "cpu") if controllers else (_MOUNT,):
            for folder in (top / path.lstrip("/"), top):
                names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
                yield tuple(folder / name for name in names)


def _limit(*files: Path) -> float | None:
    """Cores' worth of CPU time; None if the files are not there or tell no limit, which is "max" or -1."""
    try:
        quota, period = (int(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):
        return None
    return quota / period if quota > 0 and period > 0 else None
