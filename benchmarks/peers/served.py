"""Running server of the comparison, and requests to it other than load."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil

from benchmarks.peers.sample import Sample
from benchmarks.peers.wire import Wire
from deployment_toolkit.core import Array
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.process_memory import process_tree

_ANSWER_TIMEOUT_S = 60
_AT_ONCE = 16
_CHECKED_REQUESTS = 32
_IDLE_CORES = 0.25
_IDLE_POLL_S = 0.1


@dataclass(frozen=True)
class Served:
    """A model that a server serves at ``http://127.0.0.1:port`` + ``path``; ``pid`` is the server's process id, and its
    children belong to it."""

    port: int
    path: str
    wire: Wire
    pid: int

    @property
    def url(self) -> str:
        """URL for POST requests."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def answer(self, sample: Sample) -> Array:
        """Probabilities of a sample, from one request. Raises PerformanceError if there are none."""
        body = self.wire.encode(sample.x)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request("POST", self.path, body.content, dict(body.headers))
            response = connection.getresponse()
            content = response.read()
            if response.status != 200:
                raise PerformanceError(f"it answers {response.status}: {content[:300].decode(errors='replace')}")
            return self.wire.decode(content, dict(response.getheaders()))
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise PerformanceError(f"it does not answer: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def largest_difference(self, sample: Sample, rows: int) -> float:
        """Largest difference from the framework's probabilities, in many concurrent requests of ``rows`` rows: each
        must get its own answer, also if the server joins them. Raises PerformanceError if the server does not
        answer."""
        parts = [sample.part(number, rows) for number in range(min(_CHECKED_REQUESTS, sample.parts(rows)))]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(self.answer, parts))
        return max(_difference(answer, part) for answer, part in zip(answers, parts, strict=True))

    def wait_idle(self, timeout_s: float) -> None:
        """Returns when the server has finished all earlier requests, or after ``timeout_s``: a client that ended leaves
        requests in flight."""
        deadline, before = time.monotonic() + timeout_s, self._cpu_s()
        while time.monotonic() < deadline:
            time.sleep(_IDLE_POLL_S)
            now = self._cpu_s()
            if now - before < _IDLE_CORES * _IDLE_POLL_S:
                return
            before = now

    def _cpu_s(self) -> float:
        return sum(_cpu_times(self.pid))


def _difference(answer: Array, part: Sample) -> float:
    if answer.shape != part.probabilities.shape:
        raise PerformanceError(f"it answers {answer.shape[0]} probabilities to {len(part.probabilities)} rows")
    difference = np.abs(answer - part.probabilities).max()
    return float(difference) if np.isfinite(difference) else float("inf")


def _cpu_times(pid: int) -> Iterator[float]:
    for process in process_tree(pid):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        yield times.user + times.system
