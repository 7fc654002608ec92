"""The processes behind a server's URL, if it runs on this host."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterable

import psutil

from deployment_toolkit.errors import ContainerError
from deployment_toolkit.process_memory import process_tree
from deployment_toolkit.server_access.url import ServerUrl

logger = logging.getLogger("performance")

_SERVER = "tritonserver"
_PROXY = "haproxy"
_ANY_ADDRESS = ("0.0.0.0", "::")  # at which a socket listens for all addresses of its host
_IPV4_IN_IPV6 = "::ffff:"  # as gRPC's sockets have it


def server_processes(url: ServerUrl) -> frozenset[int] | None:
    """Ids of processes whose trees serve ``url``; none if the server is on another host. None if it is on this host and
    its processes can't be found, as those of another user or in a container of an engine that does not answer.

    Usually a process listens at the port. A proxy of this project is found with its server by their common parent; a
    container by the engine, or as the only server that there is.
    """
    addresses = _addresses_here(url.host)
    if not addresses:
        return frozenset()
    listening = _listening(url.port, {*addresses, *_ANY_ADDRESS})
    proxies = {pid for pid in listening if _name(pid) == _PROXY}
    found = {*(listening - proxies), *map(_parent, proxies)}
    if _serve(found):
        return frozenset(found)
    container = _container_at(url.port)
    if container is not None:
        return frozenset({*found, container})
    servers = [process.pid for process in psutil.process_iter() if _name(process.pid) == _SERVER]
    if len(servers) == 1 and (proxies or not listening):
        return frozenset({*found, *servers})
    logger.info("the process behind %s was not found, so what else uses the cores stays unknown", url)
    return None


def _addresses_here(host: str) -> set[str]:
    """Addresses of a host, if they are this host's."""
    try:
        addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()
    own = {address.address.partition("%")[0] for found in psutil.net_if_addrs().values() for address in found}
    return {address for address in addresses if address in own or address.startswith("127.")}


def _listening(port: int, addresses: set[str]) -> set[int]:
    """Ids of the processes, as far as this user may see them, that listen at the port."""
    try:
        sockets = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return set()
    listening = [item for item in sockets if item.status == psutil.CONN_LISTEN and item.laddr.port == port]
    return {item.pid for item in listening if item.pid and item.laddr.ip.removeprefix(_IPV4_IN_IPV6) in addresses}


def _serve(pids: Iterable[int]) -> bool:
    return any(_name(process.pid) == _SERVER for pid in pids for process in process_tree(pid))


def _container_at(port: int) -> int | None:
    """First process of the container that publishes this port."""
    from deployment_toolkit.containers.engine import ContainerEngine  # needs a moment, and few servers need it

    with contextlib.suppress(ContainerError), ContainerEngine.connect() as engine:
        return engine.process_at(port)
    return None


def _parent(pid: int) -> int:
    """The parent of a process; the process itself if that is unknown or the first process of all."""
    try:
        parent = psutil.Process(pid).ppid()
    except psutil.Error:
        return pid
    return parent if parent > 1 else pid


def _name(pid: int) -> str:
    try:
        return str(psutil.Process(pid).name())
    except psutil.Error:
        return ""
