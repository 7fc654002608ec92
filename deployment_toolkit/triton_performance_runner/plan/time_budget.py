"""Time that a sweep may take."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class TimeBudget:
    """A number of seconds from now on; None for no limit. ``now`` is a clock in seconds."""

    def __init__(self, seconds: float | None, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.is_limited = seconds is not None
        self._end = math.inf if seconds is None else now() + seconds

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0; infinite without a limit."""
        return max(0.0, self._end - self.now())

    def has(self, seconds: float) -> bool:
        """True if so many seconds are left."""
        return self.left_s >= seconds
