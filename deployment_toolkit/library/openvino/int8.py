"""Choice of the layers of an OpenVINO model that run in int8, by the effect of rounding on the trained model's answers.

The measure needs no labels. A score is the input of the last sigmoid, or the output if there is no sigmoid. The *noise*
is the mean square of the rounded model's score error, divided by the variance of the scores. Noise costs at most 0.121
times as much ROC AUC: for scores that are normal in either class at a distance d, AUC is Phi(d / sqrt 2), noise divides
d by sqrt(1 + noise), and x phi(x) / 2 is at most 0.121. The default limit of 0.002 corresponds to an AUC loss of
0.00025. This leaves a margin for ranks within small groups, where scores differ less than over all rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from openvino import opset8

from deployment_toolkit.core import Array, Arrays, Precision
from deployment_toolkit.errors import ConversionError, UsageError
from deployment_toolkit.library.openvino.graph import make_constant
from deployment_toolkit.library.openvino.int8_layers import find_layers, quantize_layer
from deployment_toolkit.library.openvino.request import ask

logger = logging.getLogger("convert")

Compile = Callable[[Any, Precision], Any]
Bounds = Mapping[str, tuple[Array, Array]]

MAX_NOISE = 0.002
_BALANCES = (0.5, 0.65, 0.8, 0.9)


@dataclass(frozen=True)
class Quantization:
    """A model with layers in int8, the names of the quantized and of the kept layers, and the noise."""

    model: Any
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    noise: float


class Int8Quantizer:
    """Makes int8 models from one model. ``batches`` hold training rows: every other batch gives the bounds of each
    layer's input, the rest measure the noise. ``compile_model`` compiles a model for a precision.

    Raises UsageError for fewer than two batches, ConversionError for a model without a layer to quantize.
    """

    def __init__(self, model: Any, batches: Sequence[Arrays], compile_model: Compile) -> None:
        if len(batches) < 2:
            raise UsageError(f"int8 needs two calibration batches or more, there are {len(batches)}: take smaller ones")
        self._model, self._compile = model, compile_model
        self._names = tuple(layer.name for layer in find_layers(model))
        if not self._names:
            raise ConversionError("int8: the model has no product of a batch with constant weights, use fp32 or bf16")
        self._measured_on = batches[1::2]
        self._scores = _answers(compile_model(_with_scores(model), Precision.FP32), self._measured_on)
        self._bounds = self._observe(batches[::2])

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
            f"int8: every layer alone makes a noise above {max_noise:g} ({min(costs.values()):.2g} at least): use bf16 "
            "or raise --max-quantization-noise"
        )

    def _best_balance(self) -> float:
        columns = [layer.name for layer in find_layers(self._model) if layer.is_fed_by_columns]
        if not columns:
            return _BALANCES[0]
        noises = {balance: self._noise(self._build(columns, balance)) for balance in _BALANCES}
        return min(noises, key=noises.__getitem__)

    def _build(self, names: Collection[str], balance: float) -> Any:
        model = self._model.clone()
        for layer in find_layers(model):
            if layer.name in names:
                quantize_layer(layer, *self._bounds[layer.name], balance)
        model.validate_nodes_and_infer_types()
        return model

    def _noise(self, model: Any) -> float:
        """Largest noise of the outputs."""
        scores = _answers(self._compile(_with_scores(model), Precision.INT8), self._measured_on)
        return max(_noise(one, other) for one, other in zip(self._scores, scores, strict=True))

    def _observe(self, batches: Sequence[Arrays]) -> Bounds:
        """Smallest and largest number in each input column of each layer."""
        model = self._model.clone()
        layers = find_layers(model)
        axis = make_constant(np.array([0]))
        outputs = [
            reduce(layer.data, axis).output(0) for layer in layers for reduce in (opset8.reduce_min, opset8.reduce_max)
        ]
        compiled = self._compile(openvino.Model(outputs, model.get_parameters(), "observed"), Precision.FP32)
        request = compiled.create_infer_request()
        seen = [ask(request, batch) for batch in batches]
        return {
            layer.name: (
                np.min([answers[2 * index] for answers in seen], axis=0),
                np.max([answers[2 * index + 1] for answers in seen], axis=0),
            )
            for index, layer in enumerate(layers)
        }

    def _tell(self, quantized: Collection[str], kept: Collection[str], noise: float, balance: float) -> None:
        stayed = f", {', '.join(kept)} stayed in higher precision" if kept else ""
        logger.info("int8: %d layers, noise %.2g, balance %g%s", len(quantized), noise, balance, stayed)


def _with_scores(model: Any) -> Any:
    """A model whose outputs are the inputs of the sigmoids, or the outputs without a sigmoid."""
    copy = model.clone()
    outputs = []
    for result in copy.get_results():
        output = result.input_value(0)
        outputs.append(output.get_node().input_value(0) if output.get_node().get_type_name() == "Sigmoid" else output)
    return openvino.Model(outputs, copy.get_parameters(), "scores")


def _answers(compiled: Any, batches: Sequence[Arrays]) -> list[Array]:
    request = compiled.create_infer_request()
    answers = [[answer.astype(np.float64) for answer in ask(request, batch)] for batch in batches]
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


def _noise(exact: Array, rounded: Array) -> float:
    """Mean square of the difference over the variance of the exact scores; so a constant shift counts too."""
    difference, variance = float(np.mean((rounded - exact) ** 2)), float(np.var(exact))
    if difference == 0:
        return 0.0
    return difference / variance if variance else float("inf")
