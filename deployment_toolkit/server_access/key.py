"""Key of a server: the endpoints that it opens, and its header in requests."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access.url import Scheme

# Triton's names of the endpoints that change a server, or let it read and write memory of its user. The other endpoints
# answer anybody: inference, health, metadata, configuration, statistics.
RESTRICTED = ("model-repository", "shared-memory", "trace", "logging")
INFERENCE = ("inference",)
REFUSED = "is restricted, expecting header"  # Triton's message
REMEDY = "ask its owner for its present key, and give it as docs/server-access.md says"

_NAME = "wide-deep-key"
_GRPC_PREFIX = "triton-grpc-protocol-"  # Triton puts it before the name
_BYTES = 32


@dataclass(frozen=True)
class ServerKey:
    """A header that requests to a server's restricted endpoints need."""

    name: str
    value: str = field(repr=False)

    @classmethod
    def new(cls, name: str = _NAME) -> ServerKey:
        """A random key, in a header of this name."""
        return cls(name, secrets.token_urlsafe(_BYTES))

    @classmethod
    def parse(cls, text: str, source: str) -> ServerKey:
        """Inverse of ``line``. Raises ServerError, which names the source and not the text, for anything else."""
        found = re.fullmatch(r"([\w-]+): ?(\S+)\s*", text, re.ASCII)
        if found is None:
            raise ServerError(f"{source} holds no key: write one line, its header as '{_NAME}: value'")
        return cls(found[1], found[2])

    @property
    def line(self) -> str:
        """The key as a line of an HTTP header, without the line end."""
        return f"{self.name}: {self.value}"

    def headers(self, scheme: Scheme) -> dict[str, str]:
        """Header of a request with this protocol."""
        return {(_GRPC_PREFIX if scheme is Scheme.GRPC else "") + self.name: self.value}

    def client_options(self, scheme: Scheme) -> list[str]:
        """Options of perf_analyzer for this protocol; pass them where nobody else can read them."""
        ((name, value),) = self.headers(scheme).items()
        return ["-H", f"{name}:{value}"]

    @property
    def server_options(self) -> list[str]:
        """Options of tritonserver for ``RESTRICTED``; pass them where nobody else can read them."""
        return self.options_for(RESTRICTED)

    def options_for(self, endpoints: Sequence[str]) -> list[str]:
        """Options of tritonserver that make these endpoints need the key; pass them where nobody else can read them."""
        restricted = f"{','.join(endpoints)}:{self.name}={self.value}"
        return [f"--http-restricted-api={restricted}", f"--grpc-restricted-protocol={restricted}"]
