"""Key of a server, for tests that use a separate client."""

from __future__ import annotations

from deployment_toolkit.server_access.key_files import find_key
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_server.remote import TritonServer


def key_headers(server: TritonServer, scheme: Scheme = Scheme.HTTP) -> dict[str, str]:
    """Headers of a restricted request over the protocol."""
    found = find_key(ServerUrl.parse(server.http_url))
    assert found is not None
    return found[1].headers(scheme)
