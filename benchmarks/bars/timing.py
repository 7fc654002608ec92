"""Timing of a function in calls per second."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

_WARM_UP_CALLS = 3


def calls_per_s(call: Callable[[T], object], arguments: Sequence[T], seconds: float) -> float:
    """Calls per second, with one argument after the other, repeatedly for ``seconds``, after a few uncounted calls."""
    cycle = itertools.cycle(arguments)
    for _ in range(_WARM_UP_CALLS):
        call(next(cycle))
    started = time.perf_counter()
    for count in itertools.count(1):
        call(next(cycle))
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed
    raise AssertionError("itertools.count ends never")
