"""Inference requests over gRPC."""

from __future__ import annotations

import concurrent.futures
import functools
from typing import Any

import tritonclient.grpc as client
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import InferenceError
from deployment_toolkit.triton_server.admin import grpc_channel_options
from deployment_toolkit.triton_server.url import ServerUrl


class GrpcTransport:
    """Sends without waiting; answers are handed over from a thread of gRPC's."""

    def __init__(self, url: ServerUrl, model_name: str, model_version: str, window: int) -> None:
        self._client = client.InferenceServerClient(url.address, channel_args=grpc_channel_options(url))
        self._model = (model_name, model_version)

    def send(self, x: Arrays) -> GrpcResponse:
        """Sends a request of at least one row."""
        inputs = []
        for name, array in x.items():
            tensor = client.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
            inputs.append(tensor.set_data_from_numpy(array))
        answer: concurrent.futures.Future[Any] = concurrent.futures.Future()
        name, version = self._model
        call = self._client.async_infer(name, inputs, functools.partial(_hand_over, answer), model_version=version)
        return GrpcResponse(answer, call)

    def close(self) -> None:
        """Closes the connection and gives up what is under way."""
        self._client.close()


class GrpcResponse:
    """An answer that may not be there yet."""

    def __init__(self, answer: concurrent.futures.Future[Any], call: Any) -> None:
        self._answer = answer
        self._call = call

    def result(self, timeout_s: float) -> Arrays:
        """The outputs by name. Raises InferenceError with the server's message, TimeoutError if it does not come."""
        try:
            result = self._answer.result(timeout_s)
        except InferenceServerException as error:
            gone = error.status() == "StatusCode.UNAVAILABLE"
            raise InferenceError(f"the server {'is gone' if gone else 'answered'}: {error.message()}") from error
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def cancel(self) -> None:
        """Gives the request up if it is still unanswered."""
        self._call.cancel()


def _hand_over(answer: concurrent.futures.Future[Any], result: Any, error: Exception | None) -> None:
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
