"""Clients that keep on asking through a gateway, over HTTP and gRPC, whatever becomes of a request. No client sends a
request twice: one that got an error, or no answer in half a minute, is lost."""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import request_message
from deployment_toolkit.triton_inference_runner.http import request_body

_ANSWER_S = 30.0
_COUNT_S = 300.0
_PAUSE_S = 0.02  # after a loss: a gateway without a server answers faster than a client should ask
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
HTTP, GRPC = "HTTP", "gRPC"


@dataclass(frozen=True)
class Questions:
    """Requests to one model, and the answers of its engine in this process: ``expected`` has the values of the only
    output, float32, of each request; a served answer may differ from them by ``tolerance``."""

    model: str
    requests: Sequence[Arrays]
    expected: Sequence[Array]
    tolerance: float

    def is_right(self, position: int, answer: bytes) -> bool:
        """``answer`` ends with the bytes of the output, in either protocol."""
        expected = self.expected[position]
        if len(answer) < expected.nbytes:
            return False
        found = np.frombuffer(answer[-expected.nbytes :], np.float32)
        return bool(np.abs(found - expected.ravel()).max() <= self.tolerance)


@dataclass(frozen=True)
class Tally:
    """Requests so far, by protocol: those that were answered, those of them whose answer was wrong, and the lost ones
    with their reasons. ``longest_s`` is the longest wait for a right answer, seconds, since the last ``restart``."""

    answered: Counter[str]
    wrong: Counter[str]
    lost: Counter[str]
    reasons: Counter[str]
    longest_s: float

    def since(self, before: Tally) -> Tally:
        """Those after ``before``."""
        return Tally(
            self.answered - before.answered,
            self.wrong - before.wrong,
            self.lost - before.lost,
            self.reasons - before.reasons,
            self.longest_s,
        )


class ConstantLoad:
    """Clients of both protocols, each with a connection of its own and one request in flight. A client's own fault is
    raised by ``wait_ended`` and ``stop``: it is no lost request, and its client asks no more."""

    def __init__(self, http_url: str, grpc_url: str, questions: Questions, count: int) -> None:
        self._questions = questions
        self._counts = {name: Counter[str]() for name in ("answered", "wrong", "lost", "reasons")}
        self._longest_s = 0.0
        self._used = count
        self._lock, self._over = threading.Lock(), threading.Event()
        self._clients: list[Callable[[int], None]] = [self._http(http_url), self._grpc(grpc_url)]
        self._pool = ThreadPoolExecutor(count * len(self._clients), thread_name_prefix="client")
        self._running: list[Future[None]] = []

    def start(self) -> None:
        self._running = [self._pool.submit(client, number) for number in range(self._used) for client in self._clients]

    def use(self, count: int) -> None:
        """Lets only so many clients per protocol ask from now on."""
        self._used = count

    def stop(self) -> None:
        """Returns when each client has its last answer."""
        self._over.set()
        self._pool.shutdown()
        for client in self._running:
            client.result()

    def restart(self) -> Tally:
        """The tally so far; from now on the longest wait is counted anew."""
        with self._lock:
            now = self._tally()
            self._longest_s = 0.0
        return now

    def tally(self) -> Tally:
        with self._lock:
            return self._tally()

    def _tally(self) -> Tally:
        return Tally(**{name: Counter(count) for name, count in self._counts.items()}, longest_s=self._longest_s)

    def wait_ended(self, before: Tally, at_least: int) -> None:
        """Returns when each protocol has had ``at_least`` requests since ``before``. Raises PerformanceError if that
        takes more than five minutes."""
        deadline = time.monotonic() + _COUNT_S
        while True:
            for client in self._running:
                if client.done():
                    client.result()
            now = self.tally().since(before)
            counts = [now.answered[name] + now.lost[name] for name in (HTTP, GRPC)]
            if min(counts) >= at_least:
                return
            if time.monotonic() > deadline:
                raise PerformanceError(f"only {min(counts)} of {at_least} requests ended in {_COUNT_S:g} s")
            time.sleep(0.05)

    def _http(self, url: str) -> Callable[[int], None]:
        address, questions = ServerUrl.parse(url).address, self._questions
        bodies = [request_body(x) for x in questions.requests]
        path = f"/v2/models/{questions.model}/infer"

        def send(number: int) -> None:
            connection = http.client.HTTPConnection(address, timeout=_ANSWER_S)

            def ask(position: int) -> tuple[bytes, str]:
                body, json_size = bodies[position]
                try:
                    connection.request("POST", path, body, {"Inference-Header-Content-Length": str(json_size)})
                    response = connection.getresponse()
                    answer = response.read()
                except (OSError, http.client.HTTPException) as error:
                    connection.close()  # the next request opens it anew
                    return b"", f"{type(error).__name__}: {error}"
                return answer, "" if response.status == http.HTTPStatus.OK else f"{response.status} {answer[:120]!r}"

            self._loop(HTTP, number, ask)
            connection.close()

        return send

    def _grpc(self, url: str) -> Callable[[int], None]:
        questions = self._questions
        messages = [request_message(x, questions.model, "") for x in questions.requests]
        # Else all channels of a process to one address share a connection, and a refused stream is sent again.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0), ("grpc.enable_http_proxy", 0)]

        def send(number: int) -> None:
            channel = grpc.insecure_channel(ServerUrl.parse(url).address, options)
            call: Any = channel.unary_unary(_METHOD)

            def ask(position: int) -> tuple[bytes, str]:
                try:
                    return call(messages[position], timeout=_ANSWER_S), ""
                except grpc.RpcError as error:
                    return b"", f"{error.code().name} {str(error.details())[:120]}"

            self._loop(GRPC, number, ask)
            channel.close()

        return send

    def _loop(self, protocol: str, number: int, ask: Callable[[int], tuple[bytes, str]]) -> None:
        position = number
        while not self._over.is_set():
            if number >= self._used:
                self._over.wait(_PAUSE_S)
                continue
            position = (position + 1) % len(self._questions.requests)
            sent = time.monotonic()
            answer, problem = ask(position)
            took_s = time.monotonic() - sent
            right = not problem and self._questions.is_right(position, answer)
            with self._lock:
                self._counts["lost" if problem else "answered"][protocol] += 1
                if problem:
                    self._counts["reasons"][f"{protocol} {problem}"] += 1
                elif not right:
                    self._counts["wrong"][protocol] += 1
                else:
                    self._longest_s = max(self._longest_s, took_s)
            if problem:
                time.sleep(_PAUSE_S)


@contextmanager
def constant_load(http_url: str, grpc_url: str, questions: Questions, count: int) -> Iterator[ConstantLoad]:
    """``count`` clients per protocol that ask until the block is left."""
    load = ConstantLoad(http_url, grpc_url, questions, count)
    load.start()
    try:
        yield load
    finally:
        load.stop()
