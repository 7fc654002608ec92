"""Int8 models of an OpenVINO model: what ``int8_choice.py`` needs to choose the layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import openvino
from openvino import opset8

from deployment_toolkit.core import Array, Arrays, Precision
from deployment_toolkit.library.int8_choice import Bounds, Int8Choice, joined_answers
from deployment_toolkit.library.openvino.graph import make_constant
from deployment_toolkit.library.openvino.int8_layers import find_layers, quantize_layer
from deployment_toolkit.library.openvino.request import Request

Compile = Callable[[Any, Precision], Any]


class Int8Quantizer(Int8Choice):
    """Int8 models of one OpenVINO model. ``compile_model`` compiles a model for a precision. Raises the errors of
    ``Int8Choice``."""

    def __init__(self, model: Any, batches: Sequence[Arrays], compile_model: Compile) -> None:
        self._model, self._compile = model, compile_model
        super().__init__(batches, [layer.name for layer in find_layers(model)], Precision.BF16)

    def _exact_scores(self) -> list[Array]:
        return _answers(self._compile(_with_scores(self._model), Precision.FP32), self._measured_on)

    def _observe(self) -> Bounds:
        model = self._model.clone()
        layers = find_layers(model)
        axis = make_constant(np.array([0]))
        outputs = [
            reduce(layer.data, axis).output(0) for layer in layers for reduce in (opset8.reduce_min, opset8.reduce_max)
        ]
        compiled = self._compile(openvino.Model(outputs, model.get_parameters(), "observed"), Precision.FP32)
        request = Request(compiled)
        seen = [request.ask(batch) for batch in self._bounded_by]
        return {
            layer.name: (
                np.min([answers[2 * index] for answers in seen], axis=0),
                np.max([answers[2 * index + 1] for answers in seen], axis=0),
            )
            for index, layer in enumerate(layers)
        }

    def _columns(self) -> list[str]:
        return [layer.name for layer in find_layers(self._model) if layer.is_fed_by_columns]

    def _build(self, names: Collection[str], balance: float) -> Any:
        model = self._model.clone()
        for layer in find_layers(model):
            if layer.name in names:
                quantize_layer(layer, *self._bounds[layer.name], balance)
        model.validate_nodes_and_infer_types()
        return model

    def _rounded_scores(self, model: Any) -> list[Array]:
        return _answers(self._compile(_with_scores(model), Precision.INT8), self._measured_on)


def _with_scores(model: Any) -> Any:
    """A model whose outputs are the inputs of the sigmoids, or the outputs without a sigmoid."""
    copy = model.clone()
    outputs = []
    for result in copy.get_results():
        output = result.input_value(0)
        outputs.append(output.get_node().input_value(0) if output.get_node().get_type_name() == "Sigmoid" else output)
    return openvino.Model(outputs, copy.get_parameters(), "scores")


def _answers(compiled: Any, batches: Sequence[Arrays]) -> list[Array]:
    request = Request(compiled)
    return joined_answers([request.ask(batch) for batch in batches])
