"""Address of a server's endpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from urllib.parse import urlsplit

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError
from deployment_toolkit.machine import LOOPBACK, is_loopback


class Scheme(Mnemonic):
    """Protocol of an endpoint."""

    GRPC = "grpc"
    HTTP = "http"


DEFAULT_PORTS = {Scheme.GRPC: 8001, Scheme.HTTP: 8000}


@dataclass(frozen=True)
class ServerUrl:
    """URL of a server: ``grpc://host:port`` or ``http://host:port``."""

    scheme: Scheme
    host: str
    port: int

    @property
    def address(self) -> str:
        """Text ``host:port`` for clients of both protocols."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if the host is this host's loopback."""
        return is_loopback(self.host)

    @property
    def pinned(self) -> ServerUrl:
        """The same URL with 127.0.0.1, the address of started servers, in place of ``localhost``."""
        return dataclasses.replace(self, host=LOOPBACK) if self.host == "localhost" else self

    def __str__(self) -> str:
        return f"{self.scheme}://{self.address}"

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Reads ``grpc://…``, ``http://…`` or ``host[:port]``, which means gRPC. The default port is the protocol's
        usual one. Raises UsageError for anything else."""
        try:
            parts = urlsplit(text if "://" in text else f"{Scheme.GRPC}://{text}")
        except ValueError as error:
            raise UsageError(f"server URL {text} is not an address ({error}): write it as grpc://host:port") from error
        schemes = [scheme.value for scheme in Scheme]
        if parts.scheme not in schemes:
            raise UsageError(f"server URL {text}: unknown protocol {parts.scheme}; use {' or '.join(schemes)}")
        try:
            port = parts.port
        except ValueError as error:
            raise UsageError(f"server URL {text}: the port is not a number from 1 to 65535") from error
        if not parts.hostname or parts.path.strip("/") or parts.query:
            raise UsageError(f"server URL {text} is not an address: write it as grpc://host:port or http://host:port")
        scheme = Scheme(parts.scheme)
        return cls(scheme, parts.hostname, port or DEFAULT_PORTS[scheme])
