"""Address of the container engine, in an environment that names a proxy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.errors import ContainerError
from tests.proxy_variables import dead_proxies

VERSION = b'{"ApiVersion": "1.41"}'


@pytest.fixture
def engine_port() -> Iterator[int]:
    """A stand-in for an engine that listens at a port, which answers the first question: an engine of this host at a
    port would be open to all its users."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(VERSION)))
            self.end_headers()
            self.wfile.write(VERSION)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_engine_of_this_host_is_asked_without_the_proxy(engine_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_proxies(monkeypatch)
    for name in ("DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{engine_port}")
    with ContainerEngine.connect():
        pass
    monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere.invalid:2375")
    with pytest.raises(ContainerError, match="no container engine answers") as raised, ContainerEngine.connect():
        pass
    assert "ProxyError" in str(raised.value.__cause__)
