"""Choice of a model's layers that run in int8, by the effect of rounding on the trained model's answers.

The measure needs no labels. A score is the input of the last sigmoid, or the output if there is no sigmoid. The *noise*
is the mean square of the rounded model's score error, divided by the variance of the scores. Noise costs at most 0.121
times as much ROC AUC: for scores that are normal in either class at a distance d, AUC is Phi(d / sqrt 2), noise divides
d by sqrt(1 + noise), and x phi(x) / 2 is at most 0.121. The default limit of 0.002 corresponds to an AUC loss of
0.00025. This leaves a margin for ranks within small groups, where scores differ less than over all rows.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from deployment_toolkit.core import Array, Arrays, Format, Precision
from deployment_toolkit.errors import ConversionError, UsageError

logger = logging.getLogger("convert")

MAX_NOISE = 0.002
_BALANCES = (0.5, 0.65, 0.8, 0.9)
_SMALLEST = 1e-5  # times the largest: bounds the scales of columns that hardly vary or have weights near 0

Bounds = Mapping[str, tuple[Array, Array]]


class InPrecision:
    """Converter to one of the ``precisions`` of the format ``made``. int8 needs ``calibration``, batches of training
    rows; ``max_noise`` limits the noise. Raises UsageError for another precision, or for int8 without rows."""

    made: Format
    precisions: Sequence[Precision]

    def __init__(
        self,
        *,
        precision: Precision = Precision.FP32,
        calibration: Sequence[Arrays] = (),
        max_noise: float = MAX_NOISE,
    ) -> None:
        if precision not in self.precisions:
            raise UsageError(f"{self.made} has no weights of {precision}: use {', '.join(self.precisions)}")
        if precision is Precision.INT8 and not calibration:
            raise UsageError("int8 needs rows to calibrate on: give --calibration-data-pattern with training data")
        self._precision, self._calibration, self._max_noise = precision, calibration, max_noise


@dataclass(frozen=True)
class Quantization:
    """A model with layers in int8, the names of the quantized and of the kept layers, and the noise."""

    model: Any
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    noise: float


class Int8Choice(ABC):
    """Makes int8 models of one model. ``batches`` hold training rows: every other batch gives the bounds of each
    layer's input, the rest measure the noise. ``otherwise`` is the precision that a user may take instead.

    Raises UsageError for fewer than two batches, ConversionError for a model without a layer to quantize.
    """

    def __init__(self, batches: Sequence[Arrays], names: Sequence[str], otherwise: Precision) -> None:
        if len(batches) < 2:
            raise UsageError(f"int8 needs two calibration batches or more, there are {len(batches)}: take smaller ones")
        if not names:
            raise ConversionError(
                f"int8: the model has no product of a batch with constant weights, use {_listed(otherwise)}"
            )
        self._names, self._otherwise = tuple(names), otherwise
        self._bounded_by, self._measured_on = batches[::2], batches[1::2]
        self._scores = self._exact_scores()
        self._bounds = self._observe()

    @abstractmethod
    def _exact_scores(self) -> list[Array]:
        """Scores [B] or [B, ...] of the model in float32 for all rows of ``_measured_on``, in float64, by output."""

    @abstractmethod
    def _observe(self) -> Bounds:
        """Smallest and largest number in each input column [K] of each layer, for the rows of ``_bounded_by``."""

    @abstractmethod
    def _columns(self) -> list[str]:
        """Names of the layers that a concatenation of columns feeds."""

    @abstractmethod
    def _build(self, names: Collection[str], balance: float) -> Any:
        """The model with these layers in int8."""

    @abstractmethod
    def _rounded_scores(self, model: Any) -> list[Array]:
        """Scores of a built model, as those of the exact one."""

    def quantize(self, max_noise: float) -> Quantization:
        """Quantizes every layer; while the noise is above the limit, restores the layer that alone makes the most.

        Raises ConversionError if no layer can stay in int8.
        """
        balance = self._best_balance()
        left = list(self._names)
        costs: dict[str, float] = {}
        while left:
            model = self._build(left, balance)
            noise = self._noise(model)
            kept = tuple(name for name in self._names if name not in left)
            if noise <= max_noise:
                self._tell(left, kept, noise, balance)
                return Quantization(model, tuple(left), kept, noise)
            if not costs:
                costs = {name: self._noise(self._build([name], balance)) for name in left}
                told = ", ".join(f"{name} {cost:.2g}" for name, cost in costs.items())
                logger.info("int8: noise %.2g is above %g; of each layer alone: %s", noise, max_noise, told)
            left.remove(max(left, key=costs.__getitem__))
        raise ConversionError(
            f"int8: every layer alone makes a noise above {max_noise:g} ({min(costs.values()):.2g} at least): use "
            f"{self._otherwise} or raise --max-quantization-noise"
        )

    def _best_balance(self) -> float:
        columns = self._columns()
        if not columns:
            return _BALANCES[0]
        noises = {balance: self._noise(self._build(columns, balance)) for balance in _BALANCES}
        return min(noises, key=noises.__getitem__)

    def _noise(self, model: Any) -> float:
        """Largest noise of the outputs."""
        scores = self._rounded_scores(model)
        return max(_noise(one, other) for one, other in zip(self._scores, scores, strict=True))

    def _tell(self, quantized: Collection[str], kept: Collection[str], noise: float, balance: float) -> None:
        stayed = f", {', '.join(kept)} stayed in higher precision" if kept else ""
        logger.info("int8: %d layers, noise %.2g, balance %g%s", len(quantized), noise, balance, stayed)


def column_scales(limits: Array, weights: Array, balance: float) -> Array:
    """Divisor of each column [K] that brings all columns into -1 .. 1. ``limits`` [K] are the columns' largest sizes,
    ``weights`` [K, N] their weights; ``balance`` (0 to 1) is the share of a column's size that moves from the input
    into the weights."""
    sizes = np.maximum(limits, limits.max() * _SMALLEST)
    weighed = np.abs(weights).max(axis=1)
    weighed = np.maximum(weighed, weighed.max() * _SMALLEST)
    if not (sizes.all() and weighed.all()):  # all inputs or all weights are 0
        return np.full_like(sizes, limits.max() or 1.0)
    scales: Array = sizes**balance / weighed ** (1 - balance)
    scales *= (limits / scales).max()
    return scales


def joined_answers(answers: Sequence[Sequence[Array]]) -> list[Array]:
    """Answers of batches, each a list by output, as one float64 array for each output."""
    return [np.concatenate(parts).astype(np.float64) for parts in zip(*answers, strict=True)]


def described(kept: Sequence[str], noise: str) -> str:
    """Phrase about an int8 model: the layers that stayed in higher precision, and the noise."""
    stayed = f"but for {', '.join(kept)}" if kept else "all of them"
    return f"hidden layers in int8, {stayed}, noise {noise}"


def _noise(exact: Array, rounded: Array) -> float:
    """Mean square of the difference over the variance of the exact scores; so a constant shift counts too."""
    difference, variance = float(np.mean((rounded - exact) ** 2)), float(np.var(exact))
    if difference == 0:
        return 0.0
    return difference / variance if variance else float("inf")


def _listed(otherwise: Precision) -> str:
    return str(otherwise) if otherwise is Precision.FP32 else f"{Precision.FP32} or {otherwise}"
