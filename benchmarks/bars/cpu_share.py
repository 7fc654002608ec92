"""CPU shares of processes while a server is measured, from the times that the kernel counts for each process."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from deployment_toolkit.process import Child
from deployment_toolkit.process_memory import process_tree

SERVER, HOST, CLIENT, OTHER, IDLE = "tritonserver", "model hosts (Python)", "perf_analyzer", "others", "idle"
GROUPS = (SERVER, HOST, CLIENT, OTHER, IDLE)
_START_UP_S = 1.0  # of the client: it reads its rows and connects


@dataclass(frozen=True)
class Snapshot:
    """Seconds of CPU that each group has used until ``time_s``."""

    time_s: float
    seconds: Mapping[str, float]


@dataclass
class CpuWatch:
    """Watch of CPU shares: call it repeatedly while a program measures the server ``server_pid``; then ``cores`` has
    the cores by group, for the longest run of perf_analyzer."""

    server_pid: int
    _runs: dict[int, list[Snapshot]] = field(default_factory=dict)

    def __call__(self, program: Child) -> None:
        clients = [process for process in process_tree(program.pid) if _name(process) == CLIENT]
        for client in clients[:1]:
            with contextlib.suppress(psutil.NoSuchProcess):  # an ended process would seem to have used nothing
                snapshot = self._snapshot(client)
                self._runs.setdefault(client.pid, []).append(snapshot)

    def _snapshot(self, client: psutil.Process) -> Snapshot:
        server = psutil.Process(self.server_pid)
        hosts = server.children(recursive=True)
        seconds = {
            SERVER: _seconds(server),
            HOST: sum(map(_seconds, hosts)),
            CLIENT: _seconds(client),
            **_machine(),
        }
        return Snapshot(time.monotonic(), seconds)

    def cores(self) -> dict[str, float]:
        """Cores by group, empty if no run was long enough. Their sum is the machine's number of cores."""
        runs = [run for run in self._runs.values() if run[-1].time_s - run[0].time_s > 2 * _START_UP_S]
        return shares(max(runs, key=lambda run: run[-1].time_s - run[0].time_s)) if runs else {}


def shares(run: list[Snapshot]) -> dict[str, float]:
    """Cores that each group used between the client's start-up and the last snapshot in which the client worked."""
    first = next(item for item in run if item.time_s - run[0].time_s >= _START_UP_S)
    last = run[-1]
    span_s = last.time_s - first.time_s
    cores = {name: (last.seconds[name] - first.seconds[name]) / span_s for name in last.seconds}
    cores[OTHER] = max(0.0, cores[OTHER] - sum(cores[name] for name in (SERVER, HOST, CLIENT)))
    return {name: cores[name] for name in GROUPS}


def _machine() -> dict[str, float]:
    """Busy and idle seconds of the machine."""
    ticks = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    per_second = 100.0  # USER_HZ is 100 on every architecture of Linux that Python's wheels are made for
    idle = ticks[3] + ticks[4]
    return {OTHER: (sum(ticks) - idle) / per_second, IDLE: idle / per_second}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""
