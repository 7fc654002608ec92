"""Servers that answer in turn: one that is gone leaves its work to the others, and is tried again."""

from __future__ import annotations

import itertools
import logging
import random
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from deployment_toolkit.bulk_scoring.origin import served_model
from deployment_toolkit.core import Batch, ModelSpec, Prediction
from deployment_toolkit.errors import AccessError, GoneError, InferenceError, ModelError, RefusedError, ServerError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.tasks.running import require_wanted
from deployment_toolkit.triton_inference_runner.base import TritonSession, open_session

logger = logging.getLogger("triton")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True)
class ServedModel:
    """A model on servers, and how it is asked."""

    urls: tuple[ServerUrl, ...]
    name: str
    version: str
    window: int
    response_wait_s: float
    patience_s: float

    def open(self, url: ServerUrl) -> TritonSession:
        """A session with one of the servers."""
        return open_session(
            url,
            self.name,
            self.version,
            synchronous=False,
            max_unresponded_requests=self.window,
            response_wait_time_s=self.response_wait_s,
        )


@dataclass
class _Server:
    url: ServerUrl
    sessions: int = 0
    failures: int = 0
    retry_at: float = 0.0
    problem: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


class ServerPool:
    """The servers of a model, for any number of threads. ``spec`` is the signature that each server's has to equal."""

    def __init__(self, model: ServedModel, spec: ModelSpec) -> None:
        self._model = model
        self.spec = spec
        self._servers = [_Server(url) for url in model.urls]
        self._lock = threading.Lock()

    def predict(self, batches: Iterable[Batch], first: int) -> Generator[Prediction, None, None]:
        """Yields predictions in the order of the batches, from one server, by preference the one of number ``first``
        (modulo their number), and after a failure from another one, which gets the batches that had no answer yet.

        Raises ServerError if no server has answered for the model's patience, AccessError, ModelError for a server with
        another model, and at once what no other server would answer differently: InputError, and InferenceError for an
        error of the model.
        """
        source, unanswered = iter(batches), deque[Batch]()
        answered_at = time.monotonic()

        def remembered() -> Iterator[Batch]:
            for batch in source:
                unanswered.append(batch)
                yield batch

        while True:
            server = self._taken(first, answered_at)
            try:
                with self._model.open(server.url) as session:
                    self._require_same(server, session.spec)
                    for prediction in session.predict(itertools.chain(list(unanswered), remembered())):
                        unanswered.popleft()
                        answered_at = time.monotonic()
                        server.failures = 0
                        yield prediction
                return
            except ServerError as error:
                if not _may_pass(error):
                    raise
                self._failed(server, error)
            finally:
                with self._lock:
                    server.sessions -= 1

    def _taken(self, first: int, answered_at: float) -> _Server:
        """The server to ask next: of those that may be tried now the one with fewest sessions."""
        count = len(self._servers)
        while True:
            require_wanted()
            now = time.monotonic()
            with self._lock:
                ready = [n for n in range(count) if self._servers[n].retry_at <= now]
                if ready:
                    server = self._servers[min(ready, key=lambda n: (self._servers[n].sessions, (n - first) % count))]
                    server.sessions += 1
                    return server
                next_s = min(server.retry_at for server in self._servers) - now
            if now + next_s - answered_at > self._model.patience_s:
                raise ServerError(self._nobody_answers())
            time.sleep(next_s)

    def _failed(self, server: _Server, error: ServerError) -> None:
        with self._lock:
            server.failures += 1
            server.problem = " ".join(str(error).split())
            pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(server.failures - 1, 10))
            server.retry_at = time.monotonic() + random.uniform(pause_s / 2, pause_s)
            if server.failures == 1:
                logger.warning("server %s gives no answers: %s", server.url, server.problem)

    def _nobody_answers(self) -> str:
        problems = "; ".join(f"{server.url}: {server.problem}" for server in self._servers)
        which = "the server has not" if len(self._servers) == 1 else f"none of {len(self._servers)} servers has"
        return (
            f"{which} answered for {self._model.patience_s:g} s ({problems}): start a server and give the same command "
            "again; parts that are complete stay"
        )

    def _require_same(self, server: _Server, spec: ModelSpec) -> None:
        if served_model(spec) != served_model(self.spec):
            raise ModelError(
                f"model {self._model.name} of the server at {server.url} has another signature than the one that the "
                "other rows were scored by: deploy the same model, or give --force to begin anew"
            )


def known_spec(model: ServedModel) -> ModelSpec:
    """Signature of a model on the first server that answers; those that don't are warned of. Raises ServerError if
    none does."""
    specs: list[ModelSpec] = []
    problems: list[ServerError] = []
    for url in model.urls:
        try:
            with model.open(url) as session:
                specs.append(session.spec)
        except ServerError as error:
            problems.append(error)
    if not specs:
        raise problems[0]
    for problem in problems:
        logger.warning("scoring starts without a server: %s", problem)
    return specs[0]


def _may_pass(error: ServerError) -> bool:
    """True if the same request may be answered later or by another server."""
    if isinstance(error, InferenceError):
        return isinstance(error, GoneError | RefusedError)
    return not isinstance(error, AccessError)


def at_once(urls: Sequence[str]) -> int:
    """Parts that one process scores at the same time: one for each server, or one by its engine."""
    return max(1, len(urls))
