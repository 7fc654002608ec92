"""A first guess of what a server can do: as many requests as it answers, each sent when another was answered."""

from __future__ import annotations

import threading
import time

from deployment_toolkit.capacity.client import LoadClient, nobody
from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.triton_inference_runner.refusal import is_refusal

_LONGEST_S = 60.0


class ClosedLoop:
    """Load of ``in_flight`` requests at any time, for ``seconds``. It also warms the server and the connections up."""

    def __init__(self, client: LoadClient, positions: int, in_flight: int, seconds: float) -> None:
        self._client, self._positions = client, positions
        self._in_flight, self._seconds = in_flight, seconds
        self._sent = self._under_way = self._answered = 0
        self._until = 0.0
        self._last = 0.0
        self._problem = ""
        self._lock = threading.Lock()
        self._is_over = threading.Event()

    def rate(self) -> float:
        """Answered requests per second. Raises PerformanceError if a request fails, or none is answered in a
        minute."""
        started = time.monotonic()
        self._until = started + self._seconds
        self._client.ended = self._ended
        try:
            for _ in range(self._in_flight):
                self._send()
            if not self._is_over.wait(self._seconds + _LONGEST_S):
                raise PerformanceError(f"a request was not answered in {_LONGEST_S:g} s: does the model work?")
        finally:
            self._client.ended = nobody
        if self._problem:
            raise PerformanceError(f"a request failed: {self._problem}")
        return self._answered / max(self._last - started, 1e-3)

    def _send(self) -> None:
        with self._lock:
            self._sent += 1
            self._under_way += 1
            token = self._sent
        self._client.send(token % self._positions, token)

    def _ended(self, token: int, message: str) -> None:
        is_refused = is_refusal(message)
        with self._lock:
            self._under_way -= 1
            if not message:
                self._answered += 1
                self._last = time.monotonic()
            elif not is_refused:
                self._problem = " ".join(message.split())
            is_over = bool(self._problem) or is_refused or time.monotonic() >= self._until
        if not is_over:
            self._send()
        elif not self._under_way:
            self._is_over.set()
