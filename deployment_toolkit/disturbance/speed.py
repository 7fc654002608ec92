"""Speed of a CPU: the time of a fixed bit of work.

The work is a loop of integer arithmetic in Python, some 8 ms on a server's core of today. It keeps the units of a core
busy, so that a lower clock shows, and a neighbour on the core's second hardware thread. The time is the CPU time of
this thread, which waiting for a core does not lengthen, and the shortest of a few tries. Only times of one version of
Python compare.
"""

from __future__ import annotations

import time

_STEPS = 100_000
_TRIES = 5
_MS_PER_S = 1000.0


def speed_ms() -> float:
    """Milliseconds that one core takes for the fixed bit of work now; this call takes some five times as long."""
    return min(_timed() for _ in range(_TRIES))


def _timed() -> float:
    started, number = time.thread_time(), 1
    for _ in range(_STEPS):
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF
    return (time.thread_time() - started) * _MS_PER_S
