"""Address of a server's endpoint."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError
from deployment_toolkit.machine import LOOPBACK, is_loopback
from deployment_toolkit.redaction import basic_authorization, shown_url
from deployment_toolkit.server_access.access import Access, joined


class Scheme(Mnemonic):
    """Protocol of an endpoint."""

    GRPC = "grpc"
    HTTP = "http"


DEFAULT_PORTS = {Scheme.GRPC: 8001, Scheme.HTTP: 8000}
_SECURE_PORT = 443
_FORMS = "grpc://host:port or http://host:port, with TLS grpcs:// or https://"


@dataclass(frozen=True)
class ServerUrl:
    """URL of a server: ``grpc://host:port`` or ``http://host:port``; ``secure`` with TLS, as ``grpcs://`` and
    ``https://``. ``access`` is what its clients send and check; no text of the URL shows it."""

    scheme: Scheme
    host: str
    port: int
    secure: bool = False
    access: Access = field(default_factory=Access, repr=False, hash=False)

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

    def reached_by(self, access: Access) -> ServerUrl:
        """The same URL with this access too. Raises UsageError if a header is given twice."""
        headers = joined([self.access.headers, access.headers], f"server URL {self} and its headers")
        return dataclasses.replace(self, access=dataclasses.replace(access, headers=headers))

    def __str__(self) -> str:
        return f"{self.scheme}{'s' if self.secure else ''}://{self.address}"

    @classmethod
    def of(cls, url: ServerUrl | str) -> ServerUrl:
        """The URL itself, or a text parsed. Raises UsageError."""
        return cls.parse(url) if isinstance(url, str) else url

    @classmethod
    def parse(cls, text: str) -> ServerUrl:
        """Reads ``grpc://…``, ``http://…``, ``grpcs://…``, ``https://…`` or ``host[:port]``, which means gRPC. The
        default port is Triton's usual one of the protocol, with TLS 443. ``user:password@`` becomes a header of HTTP's
        basic authorization. Raises UsageError, without user and password, for anything else."""
        shown = _shown(text)
        try:
            parts = urlsplit(text if "://" in text else f"{Scheme.GRPC}://{text}")
        except ValueError:
            raise UsageError(f"server URL {shown} is not an address: write it as {_FORMS}") from None
        schemes = {f"{scheme}{end}": (scheme, bool(end)) for end in ("", "s") for scheme in Scheme}
        if parts.scheme not in schemes:
            raise UsageError(f"server URL {shown}: unknown protocol {parts.scheme}; use {' or '.join(schemes)}")
        try:
            port = parts.port
        except ValueError:
            raise UsageError(f"server URL {shown}: the port is not a number from 1 to 65535") from None
        if not parts.hostname or parts.path.strip("/") or parts.query:
            raise UsageError(f"server URL {shown} is not an address: write it as {_FORMS}")
        scheme, secure = schemes[parts.scheme]
        port = port or (_SECURE_PORT if secure else DEFAULT_PORTS[scheme])
        return cls(scheme, parts.hostname, port, secure, Access(basic_authorization(parts)))


def _shown(text: str) -> str:
    """The text of a server's URL, which has no path, without what is before its last @."""
    scheme, mark, rest = text.rpartition("://")
    return shown_url(f"{scheme}{mark}***@{rest.rpartition('@')[2]}" if "@" in rest else text)
