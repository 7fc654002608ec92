"""Requests that a server refuses because its queue is full or their time in it is over: how they are told from other
errors, and how a client of many requests gives way.

The client sends a refused request again after a pause, and has fewer requests in flight for a while, as TCP does: half
as many after a refusal, one more after each round without one.
"""

from __future__ import annotations

import random
import time

from deployment_toolkit.errors import RefusedError

# Triton's messages (its core's scheduler_utils.cc); the status of both is "unavailable", which over gRPC is also that
# of a server that is gone.
_REFUSALS = ("Exceeds maximum queue size", "Request timeout expired")

# Messages of a server that stops, or that does not have the model yet or any more (model_repository_manager.cc and
# scheduler_utils.cc of its core).
_ABSENCES = ("unknown model", "no available versions", "not at ready state", "is stopping", "stopped accepting")
_GONE = ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND", "StatusCode.CANCELLED", "502", "503", "504")

_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


def is_refusal(message: str) -> bool:
    """True for a message of a server that refuses a request because too many wait, or it has waited too long."""
    return any(text in message for text in _REFUSALS)


def is_absence(message: str, status: str | None) -> bool:
    """True for the error of a server that is gone or has no such model at the moment. ``status`` is gRPC's or HTTP's;
    a proxy answers 502, 503 or 504 for a server that is gone."""
    return status in _GONE or any(text in message for text in _ABSENCES)


class RequestWindow:
    """Number of requests in flight: at most ``most``, fewer while the server refuses some."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(most)
        self._cuts = 0

    @property
    def size(self) -> int:
        """Requests that may be in flight."""
        return max(1, int(self._size))

    @property
    def cuts(self) -> int:
        """Times that it became smaller; a request is sent at one of these."""
        return self._cuts

    def answered(self) -> None:
        """An answer came."""
        self._size = min(self._most, self._size + 1 / self._size)

    def refused(self, cuts: int) -> None:
        """A request that was sent at ``cuts`` was refused. Those that were in flight together count once."""
        if cuts == self._cuts:
            self._size = max(1.0, self._size / 2)
            self._cuts += 1


class Patience:
    """Time for a request and all its repetitions: ``limit_s`` from now on."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._deadline = time.monotonic() + limit_s
        self._refusals = 0
        self._last: RefusedError | None = None

    @property
    def left_s(self) -> float:
        """Seconds left, some more than 0."""
        return max(0.001, self._deadline - time.monotonic())

    def next_pause(self, error: RefusedError) -> float:
        """Seconds to wait before the request is sent again, with chance in it, so that clients spread. Raises
        RefusedError with the remedy if the time is over."""
        self._refusals, self._last = self._refusals + 1, error
        longest_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._refusals - 1, 10))
        pause_s = random.uniform(longest_s / 2, longest_s)
        if pause_s >= self._deadline - time.monotonic():
            self.require_no_refusal()
        return pause_s

    def require_no_refusal(self) -> None:
        """Raises RefusedError with the remedy if the time is over and the request was refused in it."""
        if self._last is not None:
            times = "once" if self._refusals == 1 else f"{self._refusals} times"
            raise RefusedError(
                f"{self._last}, {times} in {self._limit_s:g} s: the server is overloaded. Send fewer requests at a "
                "time, wait longer, or deploy the model with a longer queue"
            ) from self._last
