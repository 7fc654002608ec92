"""Watch of one measurement: what else used the cores while it ran, and how fast the CPU was before and after.

What the measurement itself used is not a disturbance: the times of this process and what it starts (perf_analyzer), and
those of the server if it runs on this host. Everything else on the same cores is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import psutil

from deployment_toolkit.disturbance.counters import CoreTimes, core_times, cores_of, tree_seconds
from deployment_toolkit.disturbance.server_processes import server_processes
from deployment_toolkit.disturbance.speed import speed_ms
from deployment_toolkit.results.disturbed import is_disturbed
from deployment_toolkit.results.performance import (
    DISTURBED,
    OTHER_CORES,
    SPEED_AFTER,
    SPEED_BEFORE,
    STEAL_CORES,
    PerformanceRow,
)
from deployment_toolkit.server_access.url import ServerUrl


@dataclass(frozen=True)
class Disturbance:
    """What was seen of one measurement. ``other_cores`` and ``steal_cores`` are averages over it, None if unknown, of
    ``cores`` cores; ``before_ms`` and ``after_ms`` are times of a fixed bit of work (``speed``)."""

    cores: int
    other_cores: float | None
    steal_cores: float | None
    before_ms: float
    after_ms: float

    @property
    def cells(self) -> PerformanceRow:
        """The values as columns of a performance row."""
        row = {
            OTHER_CORES: self.other_cores,
            STEAL_CORES: self.steal_cores,
            SPEED_BEFORE: self.before_ms,
            SPEED_AFTER: self.after_ms,
        }
        return {**row, DISTURBED: is_disturbed(row, self.cores)}


class Seen:
    """Result of a watched measurement, there when its block has been left."""

    disturbance: Disturbance


@dataclass(frozen=True)
class _Reading:
    """Counters at one moment."""

    time_s: float
    cores: CoreTimes | None
    own_s: float


class Watch:
    """Watch of measurements of the server at ``url``. They are made by the tree of the process ``client``, by default
    this one."""

    def __init__(self, url: ServerUrl, client: int | None = None) -> None:
        self._url = url
        self._client = os.getpid() if client is None else client
        self._server: list[psutil.Process] | None = None
        self._looked = False

    @contextlib.contextmanager
    def measurement(self) -> Iterator[Seen]:
        """Watches one measurement, which is the block."""
        seen, before_ms = Seen(), speed_ms()
        server = self._find_server()
        own = {self._client, *(process.pid for process in server or ())}
        cpus = cores_of(own)
        first = _read(cpus, own)
        yield seen
        last = _read(cpus, own)
        other, steal = _used(first, last, known=server is not None and self._is_there())
        seen.disturbance = Disturbance(len(cpus), other, steal, before_ms, speed_ms())

    def _find_server(self) -> Collection[psutil.Process] | None:
        """The server's processes, None if unknown. What isn't found is not looked for again."""
        if not self._looked or not self._is_there():
            self._looked, self._server = True, None
            found = server_processes(self._url)
            with contextlib.suppress(psutil.NoSuchProcess):
                self._server = None if found is None else [psutil.Process(pid) for pid in found]
        return self._server

    def _is_there(self) -> bool:
        """True if the processes that were found last still run."""
        return all(process.is_running() for process in self._server or ())


def _read(cpus: Collection[int], own: Collection[int]) -> _Reading:
    return _Reading(time.monotonic(), core_times(cpus), tree_seconds(own))


def _used(first: _Reading, last: _Reading, *, known: bool) -> tuple[float | None, float | None]:
    """Cores that others used between two readings, and that were stolen."""
    span_s = last.time_s - first.time_s
    if first.cores is None or last.cores is None or span_s <= 0:
        return None, None
    steal = max(0.0, (last.cores.steal_s - first.cores.steal_s) / span_s)
    if not known:
        return None, steal
    all_s, own_s = last.cores.processes_s - first.cores.processes_s, last.own_s - first.own_s
    return max(0.0, (all_s - own_s) / span_s), steal
