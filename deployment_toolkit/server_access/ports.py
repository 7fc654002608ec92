"""Ports of a server on loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Collection, Mapping

import psutil

from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import LOOPBACK


def require_free(wanted: Mapping[str, int | None]) -> None:
    """Raises ServerError if one of the given ports, by protocol, is in use or given twice; None means any port."""
    given = {name: port for name, port in wanted.items() if port is not None}
    for name, port in given.items():
        if list(given.values()).count(port) > 1:
            raise ServerError(f"port {port} is given more than once: choose another port for {name}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                raise ServerError(
                    f"port {port} of {LOOPBACK}, for {name}, can't be used ({error.strerror}): choose another, or stop "
                    "what listens there"
                ) from error


def choose_free(wanted: Mapping[str, int | None]) -> dict[str, int]:
    """Ports by protocol, with a free port for each None."""
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, port in wanted.items():
            if port is None:
                probe = stack.enter_context(socket.socket())
                probe.bind((LOOPBACK, 0))
                port = probe.getsockname()[1]
            ports[name] = port
        return ports


def listens(pid: int, ports: Collection[int]) -> bool:
    """True if this process listens at all of these ports."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # the process has just ended
        return False
    listening = {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}
    return listening.issuperset(ports)


def port_options(ports: Mapping[str, int]) -> list[str]:
    """Options of tritonserver for these ports."""
    return [f"--{name}-{key}" for name, port in ports.items() for key in (f"address={LOOPBACK}", f"port={port}")]
