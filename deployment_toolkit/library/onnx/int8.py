"""Int8 models of an ONNX file for onnxruntime on the CPU: what ``int8_choice.py`` needs to choose the layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnxruntime

from deployment_toolkit.core import Array, Arrays, Precision
from deployment_toolkit.library.int8_choice import Bounds, Int8Choice, joined_answers
from deployment_toolkit.library.onnx.graph import Graph, rebuilt
from deployment_toolkit.library.onnx.int8_layers import find_layers, quantized


class Int8Quantizer(Int8Choice):
    """Int8 models of one ``ModelProto``. Raises the errors of ``Int8Choice``."""

    def __init__(self, model: Any, batches: Sequence[Arrays]) -> None:
        self._model, self._graph = model, Graph(model)
        self._layers = {layer.name: layer for layer in find_layers(self._graph)}
        super().__init__(batches, list(self._layers), Precision.FP32)

    def _exact_scores(self) -> list[Array]:
        return self._rounded_scores(self._model)

    def _observe(self) -> Bounds:
        names = list(dict.fromkeys(layer.data for layer in self._layers.values()))
        session = _session(rebuilt(self._model, self._graph.nodes, outputs=names))
        seen = [session.run(names, batch) for batch in self._bounded_by]
        bounds = {
            name: (np.min([array.min(axis=0) for array in arrays], axis=0), np.max([array.max(axis=0) for array in arrays], axis=0))
            for name, arrays in zip(names, zip(*seen, strict=True), strict=True)
        }
        return {layer.name: bounds[layer.data] for layer in self._layers.values()}

    def _columns(self) -> list[str]:
        return [name for name, layer in self._layers.items() if layer.concat is not None]

    def _build(self, names: Collection[str], balance: float) -> Any:
        return quantized(self._model, self._graph, {name: self._bounds[name] for name in names}, balance)

    def _rounded_scores(self, model: Any) -> list[Array]:
        names = self._graph.scores(self._model.graph.output)
        session = _session(rebuilt(model, model.graph.node, outputs=names))
        return joined_answers([session.run(names, batch) for batch in self._measured_on])


def _session(model: Any) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
