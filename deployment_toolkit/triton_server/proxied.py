"""A server behind a proxy: clients reach the proxy alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.proxy.running import Proxy, find_haproxy, running_proxy
from deployment_toolkit.proxy.settings import KEY_NAME, ProxyOptions
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import find_key, kept_key
from deployment_toolkit.server_access.ports import choose_free, require_free
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.triton_server.server_options import EXIT_TIMEOUT_S
from deployment_toolkit.triton_server.starting import loopback_server


@contextlib.contextmanager
def proxied_server(
    launch: Callable[..., AbstractContextManager[TritonServer]],
    options: ProxyOptions,
    wanted: Mapping[str, int | None],
    log_path: Path,
    *,
    exit_timeout_s: int = EXIT_TIMEOUT_S,
) -> Iterator[TritonServer]:
    """Yields a ready server that ``launch`` starts, with the addresses of a proxy before it; both have ended when the
    block is left. The proxy ends first: it answers what is in flight, for which it has ``exit_timeout_s``.

    ``wanted`` are the proxy's ports of ``http``, ``grpc`` and ``metrics``, by default free ones. The server itself
    listens at free ports of loopback and answers inference there to its proxy alone. ``poll`` of the handle returns an
    exit code when one of the two has ended. The proxy's log goes to the server's, ``log_path``. Raises ServerError if a
    given port is in use, if HAProxy is missing, or if server or proxy can't be started.
    """
    find_haproxy()
    require_free(wanted)
    key = ServerKey.new(KEY_NAME)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(launch(inference_key=key))
        inner = {
            "http": _port(server.http_url),
            "grpc": _port(server.grpc_url),
            "metrics": _port(server.metrics_url),
        }
        ports = choose_free(wanted)
        proxy = stack.enter_context(
            running_proxy(options, ports, inner, key=key, log_path=log_path, exit_timeout_s=exit_timeout_s)
        )
        outer = loopback_server(ports, pid=server.pid, poll=lambda: _first_end(server, proxy), log_path=log_path)
        found = find_key(ServerUrl.parse(server.http_url))
        if found is not None:
            outer.key_file = stack.enter_context(kept_key(found[1], outer.urls))
        yield outer


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None, f"{url} of a started server on {LOOPBACK}"
    return port


def _first_end(server: TritonServer, proxy: Proxy) -> int | None:
    code = server.poll()
    return proxy.poll() if code is None else code
