"""Inference requests over gRPC."""

from __future__ import annotations

import concurrent.futures
import functools
import time
from collections.abc import Callable
from typing import Any

import tritonclient.grpc as client
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import GoneError, InferenceError, RefusedError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.refusal import is_absence, is_refusal
from deployment_toolkit.triton_server.clients import grpc_client

# Triton 2.51 may crash if a request is cancelled just as it is answered (issues 7368 and 8034 of its server). Closing
# the connection cancels the requests in flight, so ``close`` waits for them first, at most this long.
_CLOSE_PATIENCE_S = 5.0


class GrpcTransport:
    """Transport that sends without waiting; a gRPC thread delivers the answers."""

    def __init__(self, url: ServerUrl, model_name: str, model_version: str, window: int) -> None:
        self._client = grpc_client(url)
        self._model = (model_name, model_version)
        self._under_way: set[concurrent.futures.Future[Any]] = set()

    def send(self, x: Arrays) -> GrpcResponse:
        """Sends a request of at least one row."""
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        name, version = self._model
        self._client.async_infer(name, _inputs(x), functools.partial(_hand_over, answer), model_version=version)
        self._under_way.add(answer)
        answer.add_done_callback(self._under_way.discard)
        return GrpcResponse(answer)

    def pause(self, seconds: float) -> None:
        """Waits while requests in flight go on."""
        time.sleep(seconds)

    def close(self) -> None:
        """Closes the connection, after a short wait for answers in flight."""
        concurrent.futures.wait(list(self._under_way), _CLOSE_PATIENCE_S)
        self._client.close()


class GrpcResponse:
    """Response over gRPC that may still be pending."""

    def __init__(self, answer: concurrent.futures.Future[Any]) -> None:
        self._answer = answer

    def result(self, timeout_s: float) -> Arrays:
        """Outputs by name. Raises InferenceError with the server's message, of a refusal RefusedError, of a server that
        is gone GoneError; TimeoutError after ``timeout_s``."""
        try:
            result = self._answer.result(timeout_s)
        except InferenceServerException as error:
            if is_refusal(error.message()):
                raise RefusedError(f"the server refused: {error.message()}") from error
            told = "is gone" if error.status() == "StatusCode.UNAVAILABLE" else "answered"
            kind = GoneError if is_absence(error.message(), error.status()) else InferenceError
            raise kind(f"the server {told}: {error.message()}") from error
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def when_done(self, call: Callable[[], None]) -> None:
        """Calls once there is an answer or an error, from another thread."""
        self._answer.add_done_callback(lambda _: call())

    def abandon(self) -> None:
        """Drops the answer; the server still computes it."""


def _hand_over(answer: concurrent.futures.Future[Any], result: Any, error: Exception | None) -> None:
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def request_message(x: Arrays, model_name: str, model_version: str) -> bytes:
    """Serialized inference request (``ModelInferRequest`` of the protocol) of these inputs."""
    message = service_pb2.ModelInferRequest(model_name=model_name, model_version=model_version)
    for tensor in _inputs(x):
        message.inputs.append(tensor._get_tensor())
        message.raw_input_contents.append(tensor._get_content())
    return bytes(message.SerializeToString())


def _inputs(x: Arrays) -> list[client.InferInput]:
    inputs = []
    for name, array in x.items():
        tensor = client.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        inputs.append(tensor.set_data_from_numpy(array))
    return inputs
