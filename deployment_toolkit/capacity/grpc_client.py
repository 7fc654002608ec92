"""Load over gRPC: the message of each request is serialized before, and answers are not read.

gRPC's Python binding costs several times as much as ``http_client.py``, some 400 microseconds per request.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import grpc

from deployment_toolkit.capacity.client import Ended, nobody
from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import request_message
from deployment_toolkit.triton_server.clients import grpc_channel

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_CLOSE_PATIENCE_S = 5.0


class GrpcClient:
    """Client over gRPC, all requests in one connection. Raises UsageError if a file of its access can't be used."""

    most_in_flight = 4096

    def __init__(self, url: ServerUrl, model_name: str, model_version: str) -> None:
        self.ended: Ended = nobody
        self._model = (model_name, model_version)
        self._headers = tuple(url.access.headers.items())
        self._channel = grpc_channel(url)
        self._call = self._channel.unary_unary(_METHOD)  # without serializers, messages are bytes
        self._requests: list[bytes] = []
        self._under_way: set[int] = set()
        self._all_ended = threading.Condition()

    def prepare(self, requests: Sequence[Arrays]) -> None:
        """Makes these the requests that ``send`` knows by their positions."""
        self._requests = [request_message(x, *self._model) for x in requests]

    def connect(self, number: int) -> None:
        """There is one connection, which the first request opens."""

    def send(self, position: int, token: int) -> None:
        """Sends a prepared request without waiting for its answer."""
        self._under_way.add(token)
        answer = self._call.future(self._requests[position], metadata=self._headers)
        answer.add_done_callback(lambda ended: self._end(token, ended))

    def close(self) -> None:
        """Waits a short time for what is in flight, and closes the connection: Triton may crash if a request is
        cancelled just as it is answered."""
        with self._all_ended:
            self._all_ended.wait_for(lambda: not self._under_way, _CLOSE_PATIENCE_S)
        self._channel.close()

    def _end(self, token: int, answer: Any) -> None:
        problem = answer.code() is not grpc.StatusCode.OK
        self.ended(token, f"{answer.code().name.lower()}: {answer.details()}" if problem else "")
        self._under_way.discard(token)
        if not self._under_way:
            with self._all_ended:
                self._all_ended.notify_all()
