"""Processor time of a server on this host, found by the port that it listens at."""

from __future__ import annotations

import contextlib

import psutil

from deployment_toolkit.process_memory import process_tree
from deployment_toolkit.server_access.url import ServerUrl

_PROGRAM = "tritonserver"


def server_process(url: ServerUrl) -> int | None:
    """Process id of the tritonserver that listens at the port of a URL on this host; None if there is none, as for a
    server elsewhere, in a container or behind a proxy, or if this user may not see it."""
    if not url.is_loopback and url.host != "localhost":
        return None
    with contextlib.suppress(psutil.Error, PermissionError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == url.port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return connection.pid if name.startswith(_PROGRAM) else None
    return None


def processor_seconds(pid: int | None) -> float | None:
    """Processor time so far of a process and its descendants; None without a process."""
    if pid is None:
        return None
    seconds = 0.0
    for process in process_tree(pid):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds += times.user + times.system
    return seconds
