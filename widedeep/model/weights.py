"""New weights of a network. Source: Glorot and Bengio, AISTATS 2010."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf

_DEVIATION_WITHIN_TWO = 0.87962566103423978  # of a normal distribution that is cut off at two standard deviations


class NewWeights:
    """Makes variables in float32. The seed and the number of variables before it determine a variable's values."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._count = 0

    def zeros(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """A variable of zeros."""
        return tf.Variable(tf.zeros(shape), name=name)

    def normal(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Normal values, cut off at two standard deviations; their variance is 2 / (rows + columns)."""
        scale = math.sqrt(2 / sum(shape)) / _DEVIATION_WITHIN_TWO
        return tf.Variable(scale * tf.random.stateless_truncated_normal(shape, self._next()), name=name)

    def uniform(self, name: str, shape: Sequence[int]) -> tf.Variable:
        """Uniform values; their variance is 2 / (rows + columns)."""
        most = math.sqrt(6 / sum(shape))
        return tf.Variable(tf.random.stateless_uniform(shape, self._next(), -most, most), name=name)

    def _next(self) -> tuple[int, int]:
        self._count += 1
        return self._seed, self._count
