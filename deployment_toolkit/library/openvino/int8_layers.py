"""Matrix products of an OpenVINO graph in int8, in a form that the CPU plugin compiles to one integer kernel each.

Weights have a scale for each output channel. The input of a product has one scale for all its columns, so the columns
of a concatenation (embeddings next to numbers, of very different sizes) are first divided to a common size, and the
rows of the weights are multiplied to match. An embedding table is scaled and rounded once; its lookups then move one
byte per number.

Source of the scales: SmoothQuant (Xiao et al., 2023, equation 4). Source of the patterns: OpenVINO's documentation,
chapter on low precision transformations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino
from openvino import opset8

from deployment_toolkit.core import Array
from deployment_toolkit.library.int8_choice import column_scales
from deployment_toolkit.library.openvino.graph import constant, find_lookup, make_constant, redirect

_STEPS = 127


@dataclass(frozen=True)
class Layer:
    """A product of a batch with constant weights [K, N]."""

    name: str
    product: Any
    weights: Array

    @property
    def data(self) -> Any:
        """Input of the product: an output [B, K] of another node."""
        return self.product.input_value(0)

    @property
    def is_fed_by_columns(self) -> bool:
        """True if the input is a concatenation of columns of known widths."""
        node = self.data.get_node()
        if node.get_type_name() != "Concat" or node.get_attributes()["axis"] not in (1, -1):
            return False
        shapes = [node.input_value(port).get_partial_shape() for port in range(node.get_input_size())]
        return all(len(shape) == 2 and shape[1].is_static for shape in shapes)


def find_layers(model: Any) -> list[Layer]:
    """Products with more than one output channel, in the order of the graph."""
    layers = []
    for node in model.get_ordered_ops():
        if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"]:
            continue
        weights = constant(node.input_value(1))
        if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
            continue
        weights = weights.T if node.get_attributes()["transpose_b"] else weights
        if min(weights.shape) > 1 and len(node.input_value(0).get_partial_shape()) == 2:
            layers.append(Layer(node.get_friendly_name(), node, weights))
    return layers


def quantize_layer(layer: Layer, low: Array, high: Array, balance: float) -> None:
    """Replaces a layer by an integer product. ``low`` and ``high`` [K] bound its input; ``balance`` (0 to 1) is the
    share of a column's size that moves from the input into the weights."""
    if layer.is_fed_by_columns:
        data, weights = _quantize_columns(layer, np.maximum(np.abs(low), np.abs(high)), balance)
    else:
        limit = float(max(np.abs(low).max(), np.abs(high).max())) or 1.0
        data, weights = _rounded(layer.data, limit, signed=bool(low.min() < 0)), layer.weights
    product = opset8.matmul(data, _integer_weights(weights), False, False)
    product.set_friendly_name(layer.name)
    redirect(layer.product.output(0), product.output(0))


@dataclass(frozen=True)
class _Column:
    """A part of a concatenation: its output and its columns."""

    output: Any
    columns: slice

    @property
    def kind(self) -> str:
        """Node type of a lookup (one row, or the sum of a list's rows), else an empty text."""
        return self.output.get_node().get_type_name() if find_lookup(self.output.get_node()) else ""


def _quantize_columns(layer: Layer, limits: Array, balance: float) -> tuple[Any, Array]:
    """Concatenation with each part in int8, lookups first, and the weights with their rows in the new order."""
    concat = layer.data.get_node()
    widths = [concat.input_value(port).get_partial_shape()[1].get_length() for port in range(concat.get_input_size())]
    ends = np.cumsum(widths)
    parts = [
        _Column(concat.input_value(port), slice(int(end - width), int(end)))
        for port, (width, end) in enumerate(zip(widths, ends, strict=True))
    ]
    limits = limits.copy()
    for part in parts:  # the whole table is known; calibration has not seen all its rows
        lookup = find_lookup(part.output.get_node())
        if lookup is not None and part.kind == "Gather":
            limits[part.columns] = np.abs(lookup.table).max(axis=0)
    scales = column_scales(limits, layer.weights, balance)
    made, order = [], []
    for part in parts:
        lookup = find_lookup(part.output.get_node())
        if lookup is not None:
            made.append(_lookup(part, lookup.table / scales[part.columns], lookup.ids))
            order.append(part)
    others = [part for part in parts if not part.kind]
    if others:
        joined = opset8.concat([part.output for part in others], 1) if len(others) > 1 else others[0].output
        inverse = 1 / np.concatenate([scales[part.columns] for part in others])
        made.append(_rounded(opset8.multiply(joined, make_constant(inverse[None].astype(np.float32))), 1.0))
        order += others
    rows = np.concatenate([np.arange(part.columns.start, part.columns.stop) for part in order])
    weights = (layer.weights * scales[:, None])[rows].astype(np.float32)
    return (opset8.concat(made, 1) if len(made) > 1 else made[0]), weights


def _lookup(part: _Column, table: Array, ids: Any) -> Any:
    """Rows of the scaled table in int8; a sum of rows would overflow int8, so it is rounded after the summation."""
    if part.kind == "EmbeddingBagPackedSum":
        return _rounded(opset8.embedding_bag_packed_sum(make_constant(table.astype(np.float32)), ids), 1.0)
    rounded = np.rint(table * np.float32(_STEPS)).clip(-_STEPS, _STEPS).astype(np.int8)
    node = part.output.get_node()
    rows = opset8.gather(make_constant(rounded), ids, node.input_value(2))
    return _unpacked(rows, np.array(1 / _STEPS, np.float32))


def _rounded(output: Any, limit: float, *, signed: bool = True) -> Any:
    """Rounds an output to 256 levels up to ``limit``; signed levels are an int8 without offset."""
    low = -limit * (_STEPS + 1) / _STEPS if signed else 0.0
    bounds = [make_constant(np.array(bound, np.float32)) for bound in (low, limit, low, limit)]
    return opset8.fake_quantize(output, *bounds, 256)


def _integer_weights(weights: Array) -> Any:
    """Weights [K, N] in int8 with a scale for each output channel."""
    scales = np.abs(weights).max(axis=0, keepdims=True) / _STEPS
    scales[scales == 0] = 1.0
    return _unpacked(make_constant(np.round(weights / scales).astype(np.int8)), scales.astype(np.float32))


def _unpacked(integers: Any, scales: Any) -> Any:
    return opset8.multiply(opset8.convert(integers, openvino.Type.f32), make_constant(scales))
