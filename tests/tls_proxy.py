"""A proxy with TLS before a server, for the tests of servers elsewhere: HAProxy, and certificates made by openssl."""

from __future__ import annotations

import base64
import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from deployment_toolkit.process import child
from deployment_toolkit.proxy.running import find_haproxy
from deployment_toolkit.server_access.ports import choose_free, listens
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer

SECRET = "s3cret-of-the-test-dkq81"
TOKEN = f"Bearer {SECRET}"
USER, PASSWORD = "me", f"p@ss/{SECRET}"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

_DEADLINE_S = 30.0
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
# Its own, since it stands for proxies that this project does not write.
_CONFIG = """
global
    log stdout format raw daemon err
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 10s
userlist known
    user {user} insecure-password {password}
{parts}
backend http
    server triton 127.0.0.1:{http}
backend grpc
    server triton 127.0.0.1:{grpc} proto h2
"""
_FRONTEND = """
frontend {name}_{protocol}
    bind 127.0.0.1:{port} ssl crt {certificate} {options} alpn {alpn}
    {rule}
    default_backend {protocol}
"""


@dataclass(frozen=True)
class Door:
    """An entrance of the proxy for both protocols: the server's certificate, options of ``bind``, a rule for
    requests."""

    certificate: Path
    options: str = ""
    rule: str = ""


class Authority:
    """An authority (CA) with its certificates in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl("req", "-x509", *_KEY, "-keyout", self._key, "-out", self.certificate, "-subj", "/CN=Test CA")

    def issue(
        self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 2, passphrase: str = ""
    ) -> tuple[Path, Path]:
        """Certificate and key of this name; ``hosts`` as openssl writes them, 0 days for one that expires at
        once."""
        certificate, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        request, extension = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        _openssl("req", *_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        extension.write_text(f"subjectAltName={hosts}\n")
        signed = ("-CA", self.certificate, "-CAkey", self._key, "-CAcreateserial", "-extfile", extension)
        _openssl("x509", "-req", "-in", request, *signed, "-days", days, "-out", certificate)
        if passphrase:
            locked = key.with_suffix(".locked")
            _openssl("pkey", "-in", key, "-aes256", "-passout", f"pass:{passphrase}", "-out", locked)
            locked.replace(key)
        return certificate, key

    def for_server(self, name: str, hosts: str = "DNS:localhost,IP:127.0.0.1", days: int = 2) -> Path:
        """File with certificate and key, as HAProxy takes it."""
        both = self._folder / f"{name}.both.pem"
        both.write_text("".join(path.read_text() for path in self.issue(name, hosts, days)))
        return both


@contextlib.contextmanager
def tls_proxy(server: TritonServer, doors: Mapping[str, Door], folder: Path) -> Iterator[dict[str, int]]:
    """Yields the ports of a running proxy before the server: ``<door>_http`` and ``<door>_grpc``."""
    names = [f"{name}_{protocol}" for name in doors for protocol in ("http", "grpc")]
    ports = choose_free(dict.fromkeys(names))
    parts = [
        _FRONTEND.format(
            name=name,
            protocol=protocol,
            port=ports[f"{name}_{protocol}"],
            certificate=door.certificate,
            options=door.options,
            alpn="h2" if protocol == "grpc" else "http/1.1",
            rule=door.rule,
        )
        for name, door in doors.items()
        for protocol in ("http", "grpc")
    ]
    inner = {"http": ServerUrl.parse(server.http_url).port, "grpc": ServerUrl.parse(server.grpc_url).port}
    config, log = folder / "haproxy.cfg", folder / "haproxy.log"
    config.write_text(_CONFIG.format(parts="".join(parts), user=USER, password=PASSWORD, **inner))
    with child([find_haproxy(), "-db", "-f", config], stdout=log) as process:
        deadline = time.monotonic() + _DEADLINE_S
        while not listens(process.pid, ports.values()):
            assert process.wait(0.05) is None and time.monotonic() < deadline, log.read_text()
        yield ports


def _openssl(*argv: object) -> None:
    subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)


@contextlib.contextmanager
def no_command_line_shows(*secrets: str) -> Iterator[set[str]]:
    """While the block runs, the command lines of all processes are searched. Yields the names of the programs seen, and
    of the environment variables of perf_analyzer. Fails if a command line has one of the secrets."""
    found: set[str] = set()
    seen: set[str] = set()
    ended = threading.Event()

    def search() -> None:
        while not ended.wait(0.2):
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.Error):
                    line = " ".join(process.cmdline())
                    seen.add(process.name())
                    if process.name() == "perf_analyzer":
                        seen.update(process.environ())
                    found.update(line for secret in secrets if secret in line)

    searcher = threading.Thread(target=search)
    searcher.start()
    try:
        yield seen
    finally:
        ended.set()
        searcher.join()
    assert not found


def files_with(folder: Path, *secrets: str) -> list[Path]:
    """Files below a folder in which one of the secrets is."""
    wanted = [secret.encode() for secret in secrets]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in files if any(secret in path.read_bytes() for secret in wanted)]
