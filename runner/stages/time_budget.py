"""Time of a run's experiments, shared among their measurements."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_S = 1.0  # of a sweep, which measures its first point in any case


class RunBudget:
    """Minutes from now on for this many experiments; 0 or None for no limit. Each experiment gets an even share of what
    is left when it begins, so what one does not need goes to the next. ``now`` is a clock in seconds."""

    def __init__(self, minutes: float | None, experiments: int, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._experiments = experiments
        self._end = now() + 60 * minutes if minutes else None
        self._experiment_end = self._end

    def begin_experiment(self) -> None:
        """The next experiment begins."""
        if self._end is not None:
            left_s = max(0.0, self._end - self._now())
            self._experiment_end = self._now() + left_s / max(1, self._experiments)
            self._experiments -= 1

    def add(self, seconds: float) -> None:
        """Gives the time back of something that the budget is not for."""
        if self._end is not None and self._experiment_end is not None:
            self._end += seconds
            self._experiment_end += seconds

    def share_s(self, parts: int, of: int) -> float | None:
        """Seconds for the next measurement of the experiment, which gets so many parts of what is left for it and those
        after it; None without a limit."""
        if self._experiment_end is None:
            return None
        return max(_LEAST_S, (self._experiment_end - self._now()) * parts / of)
