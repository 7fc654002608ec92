"""Int8 models of an ONNX file for onnxruntime on the CPU: what ``int8_choice.py`` needs to choose the layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnxruntime

from deployment_toolkit.core import Array, Arrays, Precision
from deployment_toolkit.library.int8_choice import Bounds, Int8Choice, joined_answers
from deployment_toolkit.library.onnx.graph import Graph, with_outputs
from deployment_toolkit.library.onnx.int8_layers import find_layers, quantized


class OnnxInt8(Int8Choice):
    """Int8 models of one ``ModelProto``. Raises the errors of ``Int8Choice``."""

    def __init__(self, model: Any, batches: Sequence[Arrays]) -> None:
        self._model, self._graph = model, Graph(model)
        self._layers = {layer.name: layer for layer in find_layers(self._graph)}
        super().__init__(batches, list(self._layers), Precision.FP32)

    def _exact_scores(self) -> list[Array]:
        return self._rounded_scores(self._model)

    def _observe(self) -> Bounds:
        wanted = [layer.data for layer in self._layers.values()]
        inner = [name for name in wanted if self._graph.maker(name) is not None]  # the others are inputs
        names = list(dict.fromkeys([*inner, *self._score_names()]))  # a model has at least one output
        session = _session(with_outputs(self._model, names))
        seen = [batch | dict(zip(names, session.run(names, batch), strict=True)) for batch in self._bounded_by]
        return {
            name: (
                np.min([arrays[layer.data].min(axis=0) for arrays in seen], axis=0),
                np.max([arrays[layer.data].max(axis=0) for arrays in seen], axis=0),
            )
            for name, layer in self._layers.items()
        }

    def _columns(self) -> list[str]:
        return [name for name, layer in self._layers.items() if layer.concat is not None]

    def _build(self, names: Collection[str], balance: float) -> Any:
        return quantized(self._model, self._graph, {name: self._bounds[name] for name in names}, balance)

    def _rounded_scores(self, model: Any) -> list[Array]:
        names = self._score_names()
        session = _session(with_outputs(model, names))
        return joined_answers([session.run(names, batch) for batch in self._measured_on])

    def _score_names(self) -> list[str]:
        return self._graph.scores(self._model.graph.output)


def _session(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
