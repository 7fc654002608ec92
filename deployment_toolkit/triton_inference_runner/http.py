"""Inference requests over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from http.client import HTTPException

import gevent  # type: ignore[import-untyped]
import tritonclient.http as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import GoneError, InferenceError, RefusedError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.refusal import is_absence, is_refusal
from deployment_toolkit.triton_server.clients import http_client

_CONNECTION_TIMEOUT_S = 10.0


class HttpTransport:
    """Transport that sends without waiting: each request in flight has a connection and a greenlet of this thread.

    The client's own ``async_infer`` is not used: it sleeps 10 ms per request.
    """

    def __init__(self, url: ServerUrl, model_name: str, model_version: str, window: int) -> None:
        self._url = url
        self._window = window
        self._model = (model_name, model_version)
        self._client = self._connect()

    def send(self, x: Arrays) -> HttpResponse:
        """Sends a request of at least one row."""
        greenlet = gevent.spawn(self._infer, x)
        gevent.sleep(0)  # lets this and earlier requests run until they have to wait
        return HttpResponse(self, greenlet)

    def give_up(self, greenlet: gevent.Greenlet) -> None:
        """Ends a request that has no answer yet. The answer may still arrive on its connection, so later requests get
        new connections."""
        if not greenlet.ready():
            greenlet.kill()
            self._client = self._connect()

    def pause(self, seconds: float) -> None:
        """Waits while requests in flight go on."""
        gevent.sleep(seconds)

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _connect(self) -> client.InferenceServerClient:
        # No network timeout: a request may have to wait for all earlier requests. The session limits the oldest's wait.
        return http_client(
            self._url, concurrency=self._window, connection_timeout=_CONNECTION_TIMEOUT_S, network_timeout=None
        )

    def _infer(self, x: Arrays) -> Arrays | Exception:
        """Outputs by name, or the error as a value: gevent prints an exception that leaves a greenlet."""
        name, version = self._model
        try:
            result = self._client.infer(name, _inputs(x), model_version=version)
        except (InferenceServerException, OSError, HTTPException) as error:
            return error
        return {output["name"]: result.as_numpy(output["name"]) for output in result.get_response()["outputs"]}


class HttpResponse:
    """Response over HTTP that may still be pending."""

    def __init__(self, transport: HttpTransport, greenlet: gevent.Greenlet) -> None:
        self._transport = transport
        self._greenlet = greenlet

    def result(self, timeout_s: float) -> Arrays:
        """Outputs by name. Raises InferenceError with the server's message, of a refusal RefusedError, of a server that
        is gone GoneError; TimeoutError after ``timeout_s``."""
        try:
            answer: Arrays | Exception = self._greenlet.get(timeout=timeout_s)
        except gevent.Timeout as error:
            raise TimeoutError from error
        if isinstance(answer, InferenceServerException) and is_refusal(answer.message()):
            raise RefusedError(f"the server refused: {answer.message()}") from answer
        if isinstance(answer, InferenceServerException):
            kind = GoneError if is_absence(answer.message(), answer.status()) else InferenceError
            raise kind(f"the server answered: {answer.message()}") from answer
        if isinstance(answer, Exception):
            raise GoneError(f"the server is gone: {answer or type(answer).__name__}") from answer
        return answer

    def when_done(self, call: Callable[[], None]) -> None:
        """Calls once there is an answer or an error, while this thread waits in ``pause`` or for a result."""
        self._greenlet.link(lambda _: call())

    def abandon(self) -> None:
        """Ends the request if it has no answer yet."""
        self._transport.give_up(self._greenlet)


def request_body(x: Arrays) -> tuple[bytes, int]:
    """Body of an inference request of these inputs, tensors in binary, and the length of the JSON at its start, which
    the header ``Inference-Header-Content-Length`` tells."""
    body, json_size = client.InferenceServerClient.generate_request_body(_inputs(x))
    return bytes(body), len(body) if json_size is None else json_size


def _inputs(x: Arrays) -> list[client.InferInput]:
    inputs = []
    for name, array in x.items():
        tensor = client.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs
