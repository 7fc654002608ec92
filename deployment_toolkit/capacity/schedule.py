"""The times at which LoadGen's scenario Server sends its requests.

LoadGen tells its client no due time, so this module computes the same times from the same seed. Source: LoadGen 6.0,
``GenerateQueries`` in loadgen.cc and libstdc++'s ``exponential_distribution``. ``loadgen.py`` compares the number of
requests and the length with those of LoadGen's log in every run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deployment_toolkit.core import Array

_NS_PER_S = 1e9
_TRIES = 40
_CLOSE = 0.01


@dataclass(frozen=True)
class Schedule:
    """Poisson arrivals: ``due_ns`` are nanoseconds from the start, the first is 0; ``length_ns`` is when one more
    request would be due. ``seed`` is LoadGen's ``schedule_rng_seed``."""

    seed: int
    due_ns: Array
    length_ns: int

    @property
    def rate(self) -> float:
        """Requests per second that are due, as LoadGen counts them: without the last one."""
        return (len(self.due_ns) - 1) / (float(self.due_ns[-1]) / _NS_PER_S)


def schedule(rate: float, seconds: float, least: int, seed: int) -> Schedule:
    """Arrivals at ``rate`` per second for ``seconds``, at least ``least`` of them."""
    count = max(least, int(1.2 * rate * seconds)) + 1000
    while True:
        # Two 32-bit numbers make a double, the lower half first.
        raw = np.random.RandomState(seed).randint(0, 2**32, 2 * count, np.uint32).astype(np.float64)
        uniform = (raw[0::2] + raw[1::2] * 2.0**32) / 2.0**64
        gaps_ns = (-np.log(1.0 - uniform) / rate * _NS_PER_S).astype(np.int64)
        times_ns = np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps_ns)])
        number = max(least, int(np.searchsorted(times_ns, seconds * _NS_PER_S)) + 1)
        if number < len(times_ns):
            return Schedule(seed, times_ns[:number], int(times_ns[number]))
        count *= 2


def close_schedule(rate: float, seconds: float, least: int, seed: int) -> Schedule:
    """Arrivals whose number is close to what the rate says, so that chance in it does not count as the server's: of the
    seeds from ``seed`` on the first within 1 %, or the closest of forty."""
    tries = [schedule(rate, seconds, least, seed)]
    while abs(tries[-1].rate / rate - 1) > _CLOSE and len(tries) < _TRIES:
        tries.append(schedule(rate, seconds, least, seed + len(tries)))
    return min(tries, key=lambda found: abs(found.rate / rate - 1))
