"""CPU times as the kernel counts them: of the machine's cores (``/proc/stat``, proc(5)) and of trees of processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployment_toolkit.process_memory import process_tree

_STAT = Path("/proc/stat")
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)
# A kernel that measures interrupts takes their time out of the processes'. Others count none in the column irq.
_LEAST_IRQ_SHARE = 1e-4


@dataclass(frozen=True)
class CoreTimes:
    """Seconds since the machine was started, over some of its cores: ``processes_s`` in which processes had them,
    ``steal_s`` in which the host of this virtual machine gave them to others."""

    processes_s: float
    steal_s: float


def core_times(cpus: Collection[int], stat: str | None = None) -> CoreTimes | None:
    """Times of these cores, by their numbers, now or in the text ``stat`` of ``/proc/stat``. None if the kernel shows
    none, as in some containers.

    The time of interrupts is counted with the processes that they interrupted, if it is in their times as well.
    """
    if stat is None:
        try:
            stat = _STAT.read_text()
        except OSError:
            return None
    lines = [line.split() for line in stat.splitlines()]
    per_core = [list(map(int, line[1:9])) for line in lines if line and line[0] in {f"cpu{cpu}" for cpu in cpus}]
    if len(per_core) != len(set(cpus)) or not all(len(times) == _STEAL + 1 for times in per_core):
        return None
    ticks = [sum(column) for column in zip(*per_core, strict=True)]
    busy = ticks[_USER] + ticks[_NICE] + ticks[_SYSTEM]
    if not busy:
        return None
    interrupts = ticks[_IRQ] + ticks[_SOFTIRQ]
    busy += interrupts if ticks[_IRQ] < _LEAST_IRQ_SHARE * busy else 0
    per_second = os.sysconf("SC_CLK_TCK")
    return CoreTimes(busy / per_second, ticks[_STEAL] / per_second)


def tree_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of these processes and all their descendants, each counted once, with those that have ended and for
    which their parent has waited. A process that is gone counts 0."""
    members = {process.pid: process for pid in pids for process in process_tree(pid)}
    seconds = 0.0
    for process in members.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds


def cores_of(pids: Iterable[int]) -> frozenset[int]:
    """Numbers of the cores on which these processes may run; those of this process if none of them exists."""
    cores: set[int] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            cores |= os.sched_getaffinity(pid)
    return frozenset(cores or os.sched_getaffinity(0))
