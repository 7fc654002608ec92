from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployment_toolkit.triton_server.remote import TritonServer
from tests.tls_proxy import TOKEN, Authority, Door, tls_proxy


@dataclass(frozen=True)
class TlsDoors:
    """Ports of a proxy with TLS before a server that has loaded ``adder``, and the files of its clients."""

    ports: dict[str, int]
    authority: Authority
    stranger: Authority
    client: tuple[Path, Path]
    strange_client: tuple[Path, Path] = field(repr=False)

    def url(self, door: str, scheme: str, host: str = "localhost", user: str = "") -> str:
        """URL of a door over ``http`` or ``grpc``."""
        return f"{scheme}s://{user}{host}:{self.ports[f'{door}_{scheme}']}"


@pytest.fixture(scope="package")
def doors(adder_server: TritonServer) -> Iterator[TlsDoors]:
    """Doors: ``open``; ``client`` needs a client certificate, ``token`` and ``basic`` an authorization; ``other`` has
    the certificate of another host, ``expired`` one of yesterday."""
    with tempfile.TemporaryDirectory(prefix="tls_") as name:
        folder = Path(name)
        authority, stranger = Authority(folder / "ca"), Authority(folder / "stranger")
        good = authority.for_server("server")
        kinds = {
            "open": Door(good),
            "client": Door(good, f"ca-file {authority.certificate} verify required"),
            "token": Door(
                good, rule=f"http-request deny deny_status 401 unless {{ req.hdr(authorization) '{TOKEN}' }}"
            ),
            "basic": Door(good, rule="http-request deny deny_status 403 unless { http_auth(known) }"),
            "other": Door(authority.for_server("other", "DNS:other.example")),
            "expired": Door(authority.for_server("expired", days=0)),
        }
        client, strange = authority.issue("client"), stranger.issue("client")
        with tls_proxy(adder_server, kinds, folder) as ports:
            yield TlsDoors(ports, authority, stranger, client, strange)
