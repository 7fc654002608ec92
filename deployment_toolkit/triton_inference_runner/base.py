"""Loop that sends inference requests to a server; the transports only encode, send and decode."""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

from deployment_toolkit.core import Arrays, Batch, ModelSpec, Prediction
from deployment_toolkit.errors import GoneError, InferenceError, InputError, RefusedError, UsageError
from deployment_toolkit.packing import pack
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_inference_runner.refusal import Patience, RequestWindow
from deployment_toolkit.triton_inference_runner.sized_requests import sized_requests
from deployment_toolkit.triton_server.remote import TritonServer

NO_PROCESS = "is not healthy"  # from Triton's message about a process of the Python backend that has ended
_LOAD_AGAIN = "its process has ended, as when memory runs out; deploy the model again"

logger = logging.getLogger("triton")

_TRANSPORTS = {
    Scheme.GRPC: ("deployment_toolkit.triton_inference_runner.grpc", "GrpcTransport"),
    Scheme.HTTP: ("deployment_toolkit.triton_inference_runner.http", "HttpTransport"),
}


class Response(Protocol):
    """Response to a request that may still be pending."""

    def result(self, timeout_s: float) -> Arrays:
        """Outputs by name. Raises InferenceError with the server's message, of a refusal RefusedError, of a server that
        is gone GoneError; TimeoutError after ``timeout_s``."""
        ...

    def when_done(self, call: Callable[[], None]) -> None:
        """Calls once there is an answer or an error."""
        ...

    def abandon(self) -> None:
        """Drops the response; nobody waits for it any more."""
        ...


class Transport(Protocol):
    """A connection for inference requests to one version of a model, used from one thread."""

    def send(self, x: Arrays) -> Response:
        """Sends a request of at least one row without waiting for its answer."""
        ...

    def pause(self, seconds: float) -> None:
        """Waits while requests in flight go on."""
        ...

    def close(self) -> None: ...


@dataclasses.dataclass
class _Request:
    """A request in flight, the position of its batch, and the cuts of the window when it was sent."""

    number: int
    batch: Batch
    response: Response
    cuts: int


class TritonSession:
    """Session with one version of a model on a server; a context manager. One loop at a time may use ``predict``."""

    def __init__(
        self,
        transport: Transport,
        *,
        spec: ModelSpec,
        max_batch_size: int,
        window: int,
        response_wait_time_s: float,
        request_rows: Sequence[int] = (),
    ) -> None:
        self._transport = transport
        self._spec = spec
        self._max_batch_size = max_batch_size
        self._window = RequestWindow(window)
        self._response_wait_time_s = response_wait_time_s
        self._request_rows = request_rows
        # The server checks its value ranges; a check of every id here would double the work.
        self._signature = ModelSpec(
            inputs=tuple(dataclasses.replace(item, value_range=None) for item in spec.unpacked.inputs),
            outputs=spec.outputs,
        )

    @property
    def spec(self) -> ModelSpec:
        """Signature of the model on the server, with the value ranges in its configuration."""
        return self._spec

    def predict(self, batches: Iterable[Batch]) -> Iterator[Prediction]:
        """Yields predictions in the order of the batches; at most a window of them is in memory and in flight. First,
        rows are cut into a request of each of ``request_rows``, each sent after the answer to the one before. Batches
        have the inputs of the original signature; for a model with packed inputs they are packed as they are sent. A
        request that an overloaded server refuses is sent again, and fewer are in flight for a while.

        Raises InputError for a batch that does not fit the signature or is larger than the model takes, and
        InferenceError if the server answers a batch with an error or with other outputs than the signature's,
        GoneError if it is gone or doesn't answer within the response wait time, RefusedError if it refuses it for that
        long. The predictions of the requests
        before it are yielded first.
        """
        under_way: deque[_Request] = deque()
        try:
            requests = sized_requests(self._checked(batches), self._request_rows)
            for number, (batch, alone) in enumerate(requests, start=1):
                under_way.append(self._send(number, batch))
                # A request that is alone in flight can't be joined with others, so it runs in its own size.
                yield from self._answers(under_way, leave=0 if alone else self._window.size - 1)
            yield from self._answers(under_way, leave=0)
        except InputError:
            yield from self._answers(under_way, leave=0)
            raise
        finally:
            for request in under_way:
                request.response.abandon()

    def __enter__(self) -> TritonSession:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._transport.close()

    def _send(self, number: int, batch: Batch) -> _Request:
        return _Request(number, batch, self._transport.send(pack(batch.x, self._spec)), self._window.cuts)

    def _answers(self, under_way: deque[_Request], *, leave: int) -> Iterator[Prediction]:
        """Yields the predictions of the oldest requests until only ``leave`` are in flight."""
        while len(under_way) > leave:
            request = under_way.popleft()
            number, batch = request.number, request.batch
            try:
                y_pred = self._answer(request)
            except InferenceError as error:
                message = " ".join(str(error).split())
                kind = type(error)
                if NO_PROCESS in message:
                    message, kind = f"{message.removesuffix('.')}: {_LOAD_AGAIN}", GoneError
                raise kind(f"batch {number} of {len(batch)} rows: {message}") from error
            except TimeoutError as error:
                raise GoneError(
                    f"batch {number} of {len(batch)} rows was not answered within {self._response_wait_time_s:g} s: "
                    "allow more with --response-wait-time or send smaller batches"
                ) from error
            self._check_outputs(number, batch, y_pred)
            yield Prediction(batch, y_pred)

    def _answer(self, request: _Request) -> Arrays:
        """Outputs by name; a refused request is sent again until it is answered or its time is over."""
        patience = Patience(self._response_wait_time_s)
        while True:
            try:
                y_pred = request.response.result(patience.left_s)
            except RefusedError as error:
                self._window.refused(request.cuts)
                self._transport.pause(patience.next_pause(error))
                request = self._send(request.number, request.batch)
            except TimeoutError:
                request.response.abandon()
                patience.require_no_refusal()
                raise
            else:
                self._window.answered()
                return y_pred

    def _checked(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        for number, batch in enumerate(batches, start=1):
            self._check(number, batch)
            yield batch

    def _check(self, number: int, batch: Batch) -> None:
        try:
            rows = self._signature.check_inputs(batch.x)
        except InputError as error:
            raise InputError(f"batch {number}: {error}") from error
        if rows != len(batch) or rows == 0:
            raise InputError(
                f"batch {number} has {rows} rows of inputs and {len(batch)} ids: it needs as many, and some"
            )
        if 0 < self._max_batch_size < rows:
            raise InputError(
                f"batch {number} has {rows} rows, the model takes at most {self._max_batch_size}: send smaller batches "
                "(--batch-size of the dataloader) or deploy the model with a larger --max-batch-size"
            )

    def _check_outputs(self, number: int, batch: Batch, y_pred: Arrays) -> None:
        expected = {item.name for item in self._spec.outputs}
        if y_pred.keys() != expected:
            raise InferenceError(f"batch {number}: the server answered {sorted(y_pred)} instead of {sorted(expected)}")
        for name, array in y_pred.items():
            if array.ndim == 0 or len(array) != len(batch):
                raise InferenceError(
                    f"batch {number}: output {name} is {list(array.shape)}, the batch has {len(batch)} rows"
                )


def open_transport(url: ServerUrl, model_name: str, model_version: str, window: int) -> Transport:
    """Opens a connection for at most ``window`` requests in flight."""
    module, name = _TRANSPORTS[url.scheme]
    transport: Transport = getattr(importlib.import_module(module), name)(url, model_name, model_version, window)
    return transport


def open_session(
    url: ServerUrl | str,
    model_name: str,
    model_version: str = "",
    *,
    synchronous: bool,
    max_unresponded_requests: int,
    response_wait_time_s: float,
    request_rows: Sequence[int] = (),
) -> TritonSession:
    """Opens a session with a model on a running server, by its URL of either protocol.

    ``max_unresponded_requests`` is the window: the largest number of requests in flight; ``synchronous`` makes it one.
    ``response_wait_time_s`` limits the wait for the oldest of them. ``request_rows`` are the sizes of the first
    requests, each alone in flight. An empty version is the server's choice. Raises ServerError if the server can't be
    reached or the version of the model does not answer, UsageError for impossible numbers.
    """
    if max_unresponded_requests < 1:
        raise UsageError(f"at least 1 request has to be under way, not {max_unresponded_requests}")
    if response_wait_time_s <= 0:
        raise UsageError(f"the wait for a response has to be longer than {response_wait_time_s:g} s")
    parsed = ServerUrl.of(url)
    server = TritonServer.from_url(parsed)
    server.require_model(model_name, model_version)
    spec = server.model_spec(model_name, model_version)
    max_batch_size = int(server.model_config(model_name, model_version)["max_batch_size"])
    for rows in request_rows:
        if rows < 1 or 0 < max_batch_size < rows:
            most = f"1 to {max_batch_size}" if max_batch_size > 0 else "at least 1"
            raise UsageError(f"a request of {rows} rows can't be sent: model {model_name} takes {most}")
    window = 1 if synchronous else max_unresponded_requests
    transport = open_transport(parsed, model_name, model_version, window)
    logger.info("asking model %s of %s, at most %d requests under way", model_name, parsed, window)
    return TritonSession(
        transport,
        spec=spec,
        max_batch_size=max_batch_size,
        window=window,
        response_wait_time_s=response_wait_time_s,
        request_rows=request_rows,
    )
