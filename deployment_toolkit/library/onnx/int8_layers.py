"""Matrix products of an ONNX graph in int8, by onnxruntime's own operation for them, ``MatMulIntegerToFloat``.

ONNX has QuantizeLinear and DequantizeLinear nodes around a float product for this, which onnxruntime fuses. It does so
only if no other fusion takes the product first; one with the addition of a bias may, and then the arithmetic is
float32. So the fused operation is written as it is, with the bias.

A product has unsigned bytes as input and signed bytes as weights, with a scale for each output channel. On a CPU
without VNNI onnxruntime's kernel adds two products in 16 bits and saturates, without an error. Weights of 7 bits can't
saturate (2 * 255 * 63 is below 2^15), so the answers are the same on every CPU.

The columns of a concatenation (embeddings next to numbers, of very different sizes) are first divided to a common size,
and the rows of the weights are multiplied to match. An embedding table is scaled and rounded once; its lookups then
move one byte per number.

Sources: onnxruntime's documentation, chapters Quantize ONNX Models (reduce_range, U8S8) and Contrib Operators; for the
scales of the columns SmoothQuant (Xiao et al., 2023, equation 4).
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

DOMAIN = "com.microsoft"  # of onnxruntime's own operations
_STEPS, _MIDDLE = 127, 128  # of a byte with an offset
_UNSIGNED_STEPS, _WEIGHT_STEPS = 255, 63


@dataclass(frozen=True)
class OnnxLayer:
    """A product of a batch with constant weights [K, N]: a MatMul or a Gemm, and the addition of a constant bias."""

    graph: Graph
    node: Any

    @property
    def name(self) -> str:
        """Name of the product, which is unlike those of all others; a node may have no name."""
        return str(self.node.output[0])

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
    def addition(self) -> Any | None:
        """The node that adds a constant [N] to the product of a MatMul, if nothing else reads that."""
        readers = self.graph.readers(self.node.output[0])
        if self.node.op_type != "MatMul" or len(readers) != 1 or readers[0].op_type != "Add":
            return None
        others = [name for name in readers[0].input if name != self.name]
        return readers[0] if len(others) == 1 and self.graph.is_bias(others[0], self.weights.shape[1]) else None

    @property
    def bias(self) -> str:
        """Name of the constant [N] that is added; empty if there is none."""
        if self.addition is not None:
            return next(str(name) for name in self.addition.input if name != self.name)
        return str(self.node.input[2]) if len(self.node.input) > 2 else ""

    @property
    def result(self) -> str:
        """Name of the product, with the bias."""
        return str((self.addition or self.node).output[0])

    @property
    def concat(self) -> Any | None:
        """The node that makes the input, if it is a concatenation of columns of known widths."""
        node = self.graph.maker(self.data)
        if node is None or node.op_type != "Concat" or attribute(node, "axis", 0) not in (1, -1):
            return None
        return node if all(self.graph.width(name) for name in node.input) else None


def find_layers(graph: Graph) -> list[OnnxLayer]:
    """Products with more than one output channel, in the order of the graph."""
    layers = []
    for node in graph.nodes:
        if node.op_type == "MatMul" or (node.op_type == "Gemm" and _is_plain(node, graph)):
            shape = graph.float_table(node.input[1])
            if shape is not None and min(shape) > 1 and graph.is_batch(node.input[0]):
                layers.append(OnnxLayer(graph, node))
    return layers


def _is_plain(node: Any, graph: Graph) -> bool:
    """True for a Gemm that only multiplies by the weights, transposed or not, and adds a constant [N]."""
    if attribute(node, "transA", 0) or attribute(node, "alpha", 1.0) != 1.0 or attribute(node, "beta", 1.0) != 1.0:
        return False
    shape = graph.float_table(node.input[1])
    if shape is None or len(node.input) < 3:
        return shape is not None
    return graph.is_bias(node.input[2], shape[0] if attribute(node, "transB", 0) else shape[1])


def quantized(model: Any, graph: Graph, bounds: Mapping[str, tuple[Array, Array]], balance: float) -> Any:
    """The model with the layers in ``bounds`` as integer products. ``bounds`` hold the lowest and the highest number in
    each column [K] of a layer's input; ``balance`` (0 to 1) is the share of a column's size that moves from the input
    into the weights. The model itself stays as it is; tables and weights that are no longer used are left out."""
    layers = {layer.result: layer for layer in find_layers(graph) if layer.name in bounds}
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
    return rebuilt(model, nodes, tensors, DOMAIN)


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


def _quantize(layer: OnnxLayer, low: Array, high: Array, balance: float, writer: _Writer) -> None:
    """Writes the nodes in place of a layer's own."""
    if layer.concat is not None:
        scale, limits = _scale(writer, 1 / _STEPS, _MIDDLE), np.maximum(np.abs(low), np.abs(high))
        data, weights = _columns(layer, list(_parts(layer.graph, layer.concat)), limits, balance, scale, writer)
    else:
        limit = float(max(np.abs(low).max(), np.abs(high).max())) or 1.0
        signed = bool(low.min() < 0)
        scale = _scale(writer, limit / (_STEPS if signed else _UNSIGNED_STEPS), _MIDDLE if signed else 0)
        data, weights = writer.node("QuantizeLinear", [layer.data, *scale], "data"), layer.weights
    integers, scales = _integer_weights(weights)
    inputs = [data, writer.constant("weights", integers), scale[0], writer.constant("weight_scales", scales)]
    inputs += [scale[1], "", layer.bias]  # the weights have no offset
    writer.nodes.append(helper.make_node("MatMulIntegerToFloat", inputs, [layer.result], layer.name, domain=DOMAIN))


def _scale(writer: _Writer, scale: float, zero_point: int) -> tuple[str, str]:
    return (
        writer.constant("scale", np.array(scale, np.float32)),
        writer.constant("zero_point", np.array(zero_point, np.uint8)),
    )


@dataclass(frozen=True)
class _Part:
    """An input of a concatenation: its name and its columns; if it is rows of a constant float32 table, the table, and
    the name of the rows' numbers."""

    name: str
    columns: slice
    table: Array | None
    ids: str


def _parts(graph: Graph, concat: Any) -> Iterator[_Part]:
    start = 0
    for name in concat.input:
        end = start + graph.width(name)
        table, ids = None, ""
        node = graph.maker(name)
        if node is not None and node.op_type == "Gather" and attribute(node, "axis", 0) == 0:
            table = graph.constant(node.input[0]) if graph.float_table(node.input[0]) else None
            ids = node.input[1]
        yield _Part(name, slice(start, end), table, ids)
        start = end


def _columns(
    layer: OnnxLayer, parts: Sequence[_Part], limits: Array, balance: float, scale: Sequence[str], writer: _Writer
) -> tuple[str, Array]:
    """Concatenation of bytes, lookups first, and the weights with their rows in the new order."""
    limits = limits.copy()
    for part in parts:  # the whole table is known; calibration has not seen all its rows
        if part.table is not None:
            limits[part.columns] = np.abs(part.table).max(axis=0)
    scales = column_scales(limits, layer.weights, balance)
    made: list[str] = []
    lookups: list[_Part] = []
    others: list[_Part] = []
    for part in parts:
        if part.table is None:
            others.append(part)
            continue
        rounded = np.rint(part.table / scales[part.columns] * np.float32(_STEPS)).clip(-_STEPS, _STEPS)
        table = writer.constant(f"table_{len(lookups)}", (rounded + _MIDDLE).astype(np.uint8))
        made.append(writer.node("Gather", [table, part.ids], f"rows_{len(lookups)}"))
        lookups.append(part)
    if others:
        names = [part.name for part in others]
        joined = writer.node("Concat", names, "numbers", axis=1) if len(names) > 1 else names[0]
        inverse = 1 / np.concatenate([scales[part.columns] for part in others])
        scaled = writer.node("Mul", [joined, writer.constant("inverse", inverse.astype(np.float32))], "numbers_scaled")
        made.append(writer.node("QuantizeLinear", [scaled, *scale], "numbers_quantized"))
    data = writer.node("Concat", made, "data", axis=1) if len(made) > 1 else made[0]
    rows = np.concatenate([np.arange(part.columns.start, part.columns.stop) for part in (*lookups, *others)])
    weights = (layer.weights * scales[:, None])[rows].astype(np.float32)
    return data, weights


def _integer_weights(weights: Array) -> tuple[Array, Array]:
    """Weights [K, N] in 7 bits of an int8, and the scale of each output channel [N]."""
    scales = np.abs(weights).max(axis=0) / _WEIGHT_STEPS
    scales[scales == 0] = 1.0
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)
