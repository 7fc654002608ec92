"""Matrix products of an ONNX graph in int8, by QuantizeLinear and DequantizeLinear nodes that onnxruntime fuses with the
product into one integer kernel.

A product has unsigned bytes as input and signed bytes as weights, with a scale for each output channel. On a CPU
without VNNI onnxruntime's kernel adds two such products in 16 bits and saturates, without an error. Weights of 7 bits
can't saturate (2 * 255 * 63 is below 2^15), so the answers are the same on every CPU.

The columns of a concatenation (embeddings next to numbers, of very different sizes) are first divided to a common size,
and the rows of the weights are multiplied to match. An embedding table is scaled and rounded once; its lookups then move
one byte per number.

Sources: onnxruntime's documentation, chapter Quantize ONNX Models (reduce_range, U8S8); for the scales of the columns
SmoothQuant (Xiao et al., 2023, equation 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from deployment_toolkit.core import Array
from deployment_toolkit.library.int8_choice import column_scales
from deployment_toolkit.library.onnx.graph import Graph, attribute, rebuilt

_STEPS, _MIDDLE, _WEIGHT_STEPS, _UNSIGNED_STEPS = 127, 128, 63, 255


@dataclass(frozen=True)
class Layer:
    """A product of a batch with constant weights [K, N]: a MatMul, or a Gemm, whose third input is added apart."""

    graph: Graph
    node: Any

    @property
    def name(self) -> str:
        """Name of the node; of the result if the node has none."""
        return self.node.name or self.node.output[0]

    @property
    def data(self) -> str:
        """Name of the input [B, K]."""
        return str(self.node.input[0])

    @property
    def weights(self) -> Array:
        """Weights [K, N] in float32."""
        weights = self.graph.constant(self.node.input[1])
        assert weights is not None, "find_layers looked"
        return weights.T if attribute(self.node, "transB", 0) else weights

    @property
    def concat(self) -> Any | None:
        """The node that makes the input, if it is a concatenation of columns of known widths."""
        node = self.graph.maker(self.data)
        if node is None or node.op_type != "Concat" or attribute(node, "axis", 0) not in (1, -1):
            return None
        shapes = [self.graph.shape(name) for name in node.input]
        return node if all(len(shape or ()) == 2 and shape[1] is not None for shape in shapes) else None


def find_layers(graph: Graph) -> list[Layer]:
    """Products with more than one output channel, in the order of the graph."""
    layers = []
    for node in graph.nodes:
        if not (node.op_type == "MatMul" or (node.op_type == "Gemm" and _is_plain(node))):
            continue
        shape = graph.float_table(node.input[1])
        if shape is not None and min(shape) > 1 and len(graph.shape(node.input[0]) or ()) == 2:
            layers.append(Layer(graph, node))
    return layers


def _is_plain(node: Any) -> bool:
    return not attribute(node, "transA", 0) and attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0


def quantized(model: Any, graph: Graph, bounds: Mapping[str, tuple[Array, Array]], balance: float) -> Any:
    """The model with the layers in ``bounds`` as integer products. ``bounds`` hold the lowest and the highest number in
    each column [K] of a layer's input; ``balance`` (0 to 1) is the share of a column's size that moves from the input
    into the weights. The model itself stays as it is; tables and weights that are no longer used are left out."""
    layers = {layer.node.output[0]: layer for layer in find_layers(graph) if layer.name in bounds}
    nodes: list[Any] = []
    tensors: list[Any] = []
    for node in graph.nodes:
        layer = layers.get(node.output[0])
        if layer is None:
            nodes.append(node)
        else:
            writer = _Writer(layer.name)
            _quantize(layer, *bounds[layer.name], balance, writer)
            nodes += writer.nodes
            tensors += writer.tensors
    return rebuilt(model, nodes, tensors)


class _Writer:
    """New nodes and constants of a layer, with names after the layer's."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def constant(self, role: str, value: Array) -> str:
        """Adds a constant; returns its name."""
        name = f"{self._name}/int8/{role}"
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], role: str, **attributes: Any) -> str:
        """Adds a node with one result; returns the result's name."""
        name = f"{self._name}/int8/{role}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name


def _quantize(layer: Layer, low: Array, high: Array, balance: float, writer: _Writer) -> None:
    """Writes the nodes in place of a layer's own; the last has its result."""
    if layer.concat is not None:
        data, weights = _columns(layer, np.maximum(np.abs(low), np.abs(high)), balance, writer)
    else:
        limit = float(max(np.abs(low).max(), np.abs(high).max())) or 1.0
        signed = bool(low.min() < 0)
        scale = _scale(writer, limit / (_STEPS if signed else _UNSIGNED_STEPS), _MIDDLE if signed else 0)
        data, weights = writer.node("QuantizeLinear", [layer.data, *scale], "data_quantized"), layer.weights
        data = writer.node("DequantizeLinear", [data, *scale], "data")
    product = writer.node("MatMul", [data, _integer_weights(weights, writer)], "product")
    bias = layer.node.input[2:]
    last = writer.nodes[-1]
    if bias:
        writer.node("Add", [product, *bias], "sum")
        last = writer.nodes[-1]
    last.name, last.output[0] = layer.name, layer.node.output[0]


def _scale(writer: _Writer, scale: float, zero_point: int) -> tuple[str, str]:
    return (
        writer.constant("scale", np.array(scale, np.float32)),
        writer.constant("zero_point", np.array(zero_point, np.uint8)),
    )


@dataclass(frozen=True)
class _Part:
    """An input of a concatenation: its name and its columns; ``table`` and ``ids`` if it is rows of a constant float32
    table."""

    name: str
    columns: slice
    table: str | None
    ids: str


def _parts(graph: Graph, concat: Any) -> Iterator[_Part]:
    start = 0
    for name in concat.input:
        end = start + graph.shape(name)[1]
        node = graph.maker(name)
        found = node is not None and node.op_type == "Gather" and attribute(node, "axis", 0) == 0
        table = node.input[0] if found and graph.float_table(node.input[0]) else None
        yield _Part(name, slice(start, end), table, node.input[1] if table else "")
        start = end


def _columns(layer: Layer, limits: Array, balance: float, writer: _Writer) -> tuple[str, Array]:
    """Concatenation of bytes, lookups first, and the weights with their rows in the new order."""
    graph = layer.graph
    parts = list(_parts(graph, layer.concat))
    limits = limits.copy()
    for part in parts:  # the whole table is known; calibration has not seen all its rows
        if part.table is not None:
            limits[part.columns] = np.abs(graph.constant(part.table)).max(axis=0)
    scales = column_scales(limits, layer.weights, balance)
    scale = _scale(writer, 1 / _STEPS, _MIDDLE)
    lookups = [part for part in parts if part.table is not None]
    others = [part for part in parts if part.table is None]
    made = []
    for number, part in enumerate(lookups):
        rounded = np.rint(graph.constant(part.table) / scales[part.columns] * np.float32(_STEPS))
        table = (rounded.clip(-_STEPS, _STEPS) + _MIDDLE).astype(np.uint8)
        made.append(writer.node("Gather", [writer.constant(f"table_{number}", table), part.ids], f"rows_{number}"))
    if others:
        names = [part.name for part in others]
        joined = writer.node("Concat", names, "numbers", axis=1) if len(names) > 1 else names[0]
        inverse = 1 / np.concatenate([scales[part.columns] for part in others])
        scaled = writer.node("Mul", [joined, writer.constant("inverse", inverse.astype(np.float32))], "numbers_scaled")
        made.append(writer.node("QuantizeLinear", [scaled, *scale], "numbers_quantized"))
    data = writer.node("Concat", made, "data_quantized", axis=1) if len(made) > 1 else made[0]
    rows = np.concatenate([np.arange(part.columns.start, part.columns.stop) for part in (*lookups, *others)])
    weights = (layer.weights * scales[:, None])[rows].astype(np.float32)
    return writer.node("DequantizeLinear", [data, *scale], "data"), weights


def _integer_weights(weights: Array, writer: _Writer) -> str:
    """Weights [K, N] in 7 bits of an int8 with a scale for each output channel."""
    scales = np.abs(weights).max(axis=0) / _WEIGHT_STEPS
    scales[scales == 0] = 1.0
    inputs = [
        writer.constant("weights", np.rint(weights / scales).astype(np.int8)),
        writer.constant("weight_scales", scales.astype(np.float32)),
        writer.constant("weight_zero_points", np.zeros(len(scales), np.int8)),
    ]
    return writer.node("DequantizeLinear", inputs, "weights_scaled", axis=1)
