"""The key of a server: what it opens, and how requests carry it."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access.url import Scheme

# Triton's names of what changes a server, or lets it read and write memory of its user. The rest answers anybody:
# inference, health, metadata, configuration, statistics.
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
REFUSED = "is restricted, expecting header"  # Triton's words
REMEDY = "ask its owner for its present key, and give it as docs/server-access.md says"

_NAME = "wide-deep-key"
_GRPC_PREFIX = "triton-grpc-protocol-"  # which Triton puts before the name
_BYTES = 32


@dataclass(frozen=True)
class ServerKey:
    """A header that a server expects of requests to its restricted endpoints."""

    name: str
    value: str = field(repr=False)

    @classmethod
    def new(cls) -> ServerKey:
        """A random one."""
        return cls(_NAME, secrets.token_urlsafe(_BYTES))

    @classmethod
    def parse(cls, text: str, source: str) -> ServerKey:
        """Inverse of ``line``. Raises ServerError, which names the source and not the text, for anything else."""
        found = re.fullmatch(r"([\w-]+): ?(\S+)\s*", text, re.ASCII)
        if found is None:
            raise ServerError(f"{source} holds no key: write one line, its header as '{_NAME}: value'")
        return cls(found[1], found[2])

    @property
    def line(self) -> str:
        """As a line of HTTP's header, without its end."""
        return f"{self.name}: {self.value}"

    def headers(self, scheme: Scheme) -> dict[str, str]:
        """What a request of this protocol carries."""
        return {(_GRPC_PREFIX if scheme is Scheme.GRPC else "") + self.name: self.value}

    def client_options(self, scheme: Scheme) -> list[str]:
        """What a perf_analyzer that talks this protocol is told, where nobody else can read it."""
        ((name, value),) = self.headers(scheme).items()
        return ["-H", f"{name}:{value}"]

    @property
    def server_options(self) -> list[str]:
        """What a tritonserver is told, where nobody else can read it."""
        restricted = f"{','.join(RESTRICTED)}:{self.name}={self.value}"
        return [f"--http-restricted-api={restricted}", f"--grpc-restricted-protocol={restricted}"]
