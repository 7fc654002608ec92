"""How far the windows of two measurements tell their ratio.

A measurement is a few windows, mostly three, so that a plain bootstrap interval would be much too narrow: it sees two
thirds of the variance of three values, and takes the normal distribution's quantile. Here the bootstrap gives the
standard error of the logarithm of the ratio of the means, corrected for the number of windows, and Student's t the
quantile (on such corrections: T. Hesterberg, What Teachers Should Know about the Bootstrap, 2015).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
LEAST_WINDOWS = 2
# Windows end with whole requests, and a host is never so even that two windows are the same.
LEAST_ERROR = 0.005
_RESAMPLES = 1000
_SEED = 20261130


@dataclass(frozen=True)
class Interval:
    """Bounds of a ratio; ``low`` <= ``high``."""

    low: float
    high: float

    def widened(self, low: float, high: float) -> Interval:
        """The interval with each bound moved outwards by a factor: ``low`` at most 1, ``high`` at least 1."""
        return Interval(self.low * min(low, 1.0), self.high * max(high, 1.0))

    @property
    def holds_equality(self) -> bool:
        """True if the two sides may be equal."""
        return self.low <= 1.0 <= self.high


def ratio_interval(ratio: float, base: Sequence[float], other: Sequence[float]) -> Interval | None:
    """95 % interval around ``ratio``, of two measurements whose windows had these values: rates, or latencies. None if
    a side has fewer than two windows, or a value is not above 0. The same values always give the same interval."""
    sides = [np.asarray(values, np.float64) for values in (base, other)]
    if not ratio > 0 or any(len(side) < LEAST_WINDOWS or not (side > 0).all() for side in sides):
        return None
    from scipy import stats  # which takes half a second to import

    error = max(_standard_error(sides), LEAST_ERROR)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, _degrees(sides))) * error
    return Interval(ratio * math.exp(-reach), ratio * math.exp(reach))


def _standard_error(sides: Sequence[np.ndarray]) -> float:
    if not any(side.std() for side in sides):
        return 0.0  # of which SciPy warns
    from scipy import stats

    made = stats.bootstrap(
        sides,
        lambda base, other, axis=-1: np.log(other.mean(axis) / base.mean(axis)),
        n_resamples=_RESAMPLES,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    )
    fewest = min(map(len, sides))
    return float(made.standard_error) * math.sqrt(fewest / (fewest - 1))


def _degrees(sides: Sequence[np.ndarray]) -> float:
    """Degrees of freedom by Welch and Satterthwaite, of the relative variances of the means."""
    parts = [side.var(ddof=1) / len(side) / side.mean() ** 2 for side in sides]
    if not sum(parts):
        return float(sum(len(side) - 1 for side in sides))
    return float(sum(parts) ** 2 / sum(part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)))
