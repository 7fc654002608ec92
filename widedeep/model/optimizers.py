"""Optimizers, as TensorFlow's own kernels, which update a variable in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

_EPSILON = 1e-7


class Adagrad:
    """Adagrad (Duchi et al., JMLR 2011). Of a table that is looked up, only the rows of the batch are read and written.
    The sums of squares begin with 0.1."""

    def __init__(self, variables: Sequence[tf.Variable], learning_rate: float) -> None:
        self.variables = list(variables)
        self._learning_rate = learning_rate
        self._squares = [tf.Variable(tf.fill(variable.shape, 0.1), trainable=False) for variable in self.variables]

    def apply(self, gradients: Sequence[Any]) -> None:
        """Changes the variables. A gradient is a tensor, or the slices of a table's rows."""
        for variable, squares, gradient in zip(self.variables, self._squares, gradients, strict=True):
            options = {"var": variable.handle, "accum": squares.handle, "lr": self._learning_rate, "epsilon": _EPSILON}
            if isinstance(gradient, tf.IndexedSlices):
                # The kernel takes one slice after the other; rows that are looked up twice count as one sum.
                rows, places = tf.unique(gradient.indices)
                total = tf.math.unsorted_segment_sum(gradient.values, places, tf.size(rows))
                tf.raw_ops.ResourceSparseApplyAdagradV2(**options, grad=total, indices=rows)
            else:
                tf.raw_ops.ResourceApplyAdagradV2(**options, grad=gradient)


class Adam:
    """Adam (Kingma and Ba, ICLR 2015), with the usual rates of decay."""

    _BETA1, _BETA2 = 0.9, 0.999

    def __init__(self, variables: Sequence[tf.Variable], learning_rate: float) -> None:
        self.variables = list(variables)
        self._learning_rate = learning_rate
        self._steps = tf.Variable(0.0, trainable=False)
        self._means, self._squares = (
            [tf.Variable(tf.zeros(variable.shape), trainable=False) for variable in self.variables] for _ in range(2)
        )

    def apply(self, gradients: Sequence[Any]) -> None:
        """Changes the variables by gradients of their shapes."""
        steps = self._steps.assign_add(1)
        rates = {"beta1": self._BETA1, "beta2": self._BETA2, "lr": self._learning_rate, "epsilon": _EPSILON}
        powers = {"beta1_power": self._BETA1**steps, "beta2_power": self._BETA2**steps}
        for variable, mean, square, gradient in zip(self.variables, self._means, self._squares, gradients, strict=True):
            handles = {"var": variable.handle, "m": mean.handle, "v": square.handle}
            tf.raw_ops.ResourceApplyAdam(**handles, **powers, **rates, grad=gradient)
