"""Clients of a load generator: requests made ready before, sent without waiting, and their ends told."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Protocol

from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access.url import Scheme, ServerUrl

Ended = Callable[[int, str], None]

_CLIENTS = {
    Scheme.HTTP: ("deployment_toolkit.capacity.http_client", "HttpClient"),
    Scheme.GRPC: ("deployment_toolkit.capacity.grpc_client", "GrpcClient"),
}


class LoadClient(Protocol):
    """Client of one version of a model. ``most_in_flight`` is the largest number of requests that it can have in
    flight. Each request that was sent ends by one call of ``ended``, from any thread, with the request's token and an
    empty text, or the text of the error."""

    most_in_flight: int
    ended: Ended

    def prepare(self, requests: Sequence[Arrays]) -> None:
        """Makes these the requests that ``send`` knows by their positions."""
        ...

    def connect(self, number: int) -> None:
        """Opens connections for so many requests in flight, so that they need not be opened under load."""
        ...

    def send(self, position: int, token: int) -> None:
        """Sends a prepared request without waiting for its answer; it never raises."""
        ...

    def close(self) -> None:
        """Waits a short time for what is in flight, and closes the connections."""
        ...


def open_client(url: ServerUrl, model_name: str, model_version: str) -> LoadClient:
    """A client for the protocol of the URL. Raises UsageError if a file of the URL's access can't be used."""
    module, name = _CLIENTS[url.scheme]
    client: LoadClient = getattr(importlib.import_module(module), name)(url, model_name, model_version)
    return client


def nobody(token: int, message: str) -> None:
    """An ``Ended`` of a client that nobody uses."""
