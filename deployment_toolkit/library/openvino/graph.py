"""Simplification of OpenVINO graphs with embedding tables; the answers stay the same.

The rewritten patterns cost time in the CPU plugin's profile, or at batch 1, where every node costs its shape inference:
slices that keep everything, sums over the present rows of an id list (three passes over the gathered rows), and a
gather and an addition for each scalar table of the linear part. A graph without these patterns is not changed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from openvino import Tensor, Type, op, opset8
from openvino.passes import ConstantFolding, Manager

from deployment_toolkit.core import Array

logger = logging.getLogger("convert")

_TO_THE_END = 1_000_000_000  # no batch is as large; ONNX exporters write this, or the largest int, for an open end


def simplify(model: Any) -> None:
    """Rewrites the model in place; names, shapes and types of inputs and outputs stay."""
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(model)
    slices = [node for node in model.get_ordered_ops() if _keeps_everything(node)]
    for node in slices:
        redirect(node.output(0), node.input_value(0))
    lists = [found for node in model.get_ordered_ops() if (found := _find_list_sum(node))]
    for found in lists:
        redirect(found.node.output(0), _bag(found.table, found.ids).output(0))
    joined = sum(_join(leaves) for leaves in _scalar_lookups(model))
    model.validate_nodes_and_infer_types()
    told = (len(slices), len(lists), joined)
    logger.info("graph: %d slices dropped, %d sums over id lists made lookups, %d scalar tables joined", *told)


def separate_activations(model: Any) -> None:
    """Replaces each ReLU by max(x, 0), in place. The CPU plugin does not fuse that into the product before it, and then
    multiplies with MLAS, as onnxruntime does; with AVX2, MLAS is faster than the plugin's kernel
    (docs/performance-avx2.md)."""
    activations = [node for node in model.get_ordered_ops() if node.get_type_name() == "Relu"]
    for node in activations:
        apart = opset8.maximum(node.input_value(0), _like(node.input_value(0), 0))
        apart.set_friendly_name(node.get_friendly_name())
        redirect(node.output(0), apart.output(0))
    logger.info("graph: %d activations apart from their products, for a CPU with AVX2", len(activations))


def store_tables_in_bf16(model: Any) -> None:
    """Stores the table of each lookup of one row in bfloat16, in place: half of the memory and of the reading. The CPU
    plugin, computing in bfloat16, rounds a looked up row to nearest even; here the table is rounded once. The sum of a
    list's rows keeps its float32 table, because it is summed before it is rounded."""
    lookups = [found for node in model.get_ordered_ops() if (found := find_lookup(node))]
    rounded = [found for found in lookups if found.node.get_type_name() == "Gather"]
    for found in rounded:
        rows = opset8.gather(_in_bf16(found.table), found.ids, found.node.input_value(2))
        widened = opset8.convert(rows, "f32")
        widened.set_friendly_name(found.node.get_friendly_name())
        redirect(found.node.output(0), widened.output(0))
    logger.info("graph: %d of %d tables in bfloat16", len(rounded), len(lookups))


def _in_bf16(table: Array) -> Any:
    bits = np.ascontiguousarray(table).view(np.uint32)
    tensor = Tensor(Type.bf16, list(table.shape))
    tensor.data.view(np.uint16)[...] = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16  # half to even
    return op.Constant(tensor)


def make_constant(value: Array) -> Any:
    """Constant node; opset's function converts to a Python list first, which takes seconds for a large table."""
    return op.Constant(np.ascontiguousarray(value))


def constant(output: Any) -> Array | None:
    """Value of an output if its node is a constant, else None."""
    node = output.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def redirect(old: Any, new: Any) -> None:
    """Connects the consumers of ``old`` to ``new``. OpenVINO's ``replace`` would give an input the names of both."""
    for target in old.get_target_inputs():
        target.replace_source_output(new)
    if not new.get_names():
        new.set_names(old.get_names())  # a model's output takes its name from here


def _bag(table: Array, ids: Any) -> Any:
    """Sum of the table's rows for each list of ids [B, H]; an id below 0 selects an appended row of zeros."""
    wanted = opset8.select(opset8.less(ids, _like(ids, 0)), _like(ids, len(table)), ids)
    return opset8.embedding_bag_packed_sum(make_constant(np.concatenate([table, np.zeros_like(table[:1])])), wanted)


def _like(ids: Any, value: int) -> Any:
    return make_constant(np.array(value, ids.get_element_type().to_dtype()))


def _keeps_everything(node: Any) -> bool:
    """True for a slice from the start to the end of every axis that it names, with step 1."""
    if node.get_type_name() != "Slice" or any(
        target.get_node().get_type_name() == "Result" for target in node.output(0).get_target_inputs()
    ):
        return False
    starts, ends, steps = (constant(node.input_value(port)) for port in (1, 2, 3))
    shape = node.input_value(0).get_partial_shape()
    axes = constant(node.input_value(4)) if node.get_input_size() > 4 else np.arange(len(shape))
    if starts is None or ends is None or steps is None or axes is None or (starts != 0).any() or (steps != 1).any():
        return False
    sizes = [_TO_THE_END if shape[axis].is_dynamic else shape[axis].get_length() for axis in axes.tolist()]
    return all(end >= size for end, size in zip(ends.tolist(), sizes, strict=True))


@dataclass(frozen=True)
class _ListSum:
    node: Any
    table: Array
    ids: Any  # [B, H], below 0 where there is none


def _find_list_sum(node: Any) -> _ListSum | None:
    """Finds ``sum over H of table[max(ids, 0)] * (ids >= 0)``."""
    if node.get_type_name() != "ReduceSum" or node.get_attributes()["keep_dims"]:
        return None
    axes, product = constant(node.input_value(1)), node.input_value(0).get_node()
    if axes is None or axes.reshape(-1).tolist() != [1] or product.get_type_name() != "Multiply":
        return None
    for rows, mask in ((0, 1), (1, 0)):
        lookup = find_lookup(product.input_value(rows).get_node())
        ids = _above(product.input_value(mask), "GreaterEqual")
        if lookup is None or ids is None or lookup.ids.get_node().get_type_name() != "Maximum":
            continue
        if _same(_against_zero(lookup.ids.get_node()), ids):
            return _ListSum(node, lookup.table, ids)
    return None


def _above(mask: Any, comparison: str) -> Any | None:
    """Ids that a mask compares with 0; None if it does not."""
    node = mask.get_node()
    while node.get_type_name() in ("Convert", "Unsqueeze", "Reshape"):
        node = node.input_value(0).get_node()
    return _against_zero(node) if node.get_type_name() == comparison else None


def _against_zero(node: Any) -> Any | None:
    other = constant(node.input_value(1))
    return node.input_value(0) if other is not None and other.size == 1 and other.item() == 0 else None


def _same(one: Any | None, other: Any) -> bool:
    if one is None:
        return False
    return (one.get_node().get_name(), one.get_index()) == (other.get_node().get_name(), other.get_index())


@dataclass(frozen=True)
class Lookup:
    """Rows of a constant float32 table [cardinality, width]."""

    node: Any
    table: Array
    ids: Any


def find_lookup(node: Any) -> Lookup | None:
    """Lookup that a node performs; None if it is no lookup."""
    kind = node.get_type_name()
    if not ((kind == "Gather" and _is_plain(node)) or (kind == "EmbeddingBagPackedSum" and node.get_input_size() == 2)):
        return None
    table = constant(node.input_value(0))
    if table is None or table.ndim != 2 or table.dtype != np.float32:
        return None
    return Lookup(node, table, node.input_value(1))


def _is_plain(node: Any) -> bool:
    axis = constant(node.input_value(2))
    return axis is not None and axis.item() == 0 and not node.get_attributes().get("batch_dims", 0)


@dataclass(frozen=True)
class _ScalarLookup:
    output: Any  # [B, 1]
    table: Array  # [cardinality, 1], without a row for the padding
    ids: Any  # [B, H]


def _scalar_lookups(model: Any) -> Iterator[list[_ScalarLookup]]:
    """Groups of scalar lookups that are added into the same sum."""
    sums: dict[str, list[_ScalarLookup]] = {}
    for node in model.get_ordered_ops():
        found = _find_scalar_lookup(node)
        if found is not None:
            sums.setdefault(_root(_only_sum(found.output)), []).append(found)
    return iter([leaves for leaves in sums.values() if len(leaves) > 1])


def _find_scalar_lookup(node: Any) -> _ScalarLookup | None:
    lookup = find_lookup(node)
    if lookup is None or lookup.table.shape[1] != 1 or _only_sum(node.output(0)) is None:
        return None
    index = lookup.ids.get_node()
    if node.get_type_name() == "EmbeddingBagPackedSum":
        return _ScalarLookup(node.output(0), lookup.table[:-1], index.input_value(2))
    axes = constant(index.input_value(1)) if index.get_type_name() == "Squeeze" else None
    if axes is None or axes.reshape(-1).tolist() != [1]:
        return None
    return _ScalarLookup(node.output(0), lookup.table, index.input_value(0))


def _only_sum(output: Any) -> Any | None:
    """Addition that is the only consumer of an output; None if there are other consumers."""
    targets = list(output.get_target_inputs())
    node = targets[0].get_node() if len(targets) == 1 else None
    return node if node is not None and node.get_type_name() == "Add" else None


def _root(addition: Any) -> str:
    while (above := _only_sum(addition.output(0))) is not None:
        addition = above
    return str(addition.get_name())


def _join(leaves: list[_ScalarLookup]) -> int:
    """Joins the tables into one, whose row 0 is the padding; each list of ids is shifted to its part of the table."""
    sizes = [1, *(len(leaf.table) for leaf in leaves)]
    starts = np.cumsum(sizes)[:-1]
    offsets = [
        start
        for start, leaf in zip(starts, leaves, strict=True)
        for _ in range(leaf.ids.get_partial_shape()[1].get_length())
    ]
    ids = opset8.concat([opset8.convert(leaf.ids, "i32") for leaf in leaves], 1)
    moved = opset8.add(ids, make_constant(np.array([offsets], np.int32)))
    zero = make_constant(np.array(0, np.int32))
    # An id below 0 is padding, before the offset of its list is added.
    wanted = opset8.select(opset8.less(ids, zero), zero, moved)
    table = np.concatenate([np.zeros((1, 1), np.float32), *(leaf.table for leaf in leaves)])
    joined = opset8.embedding_bag_packed_sum(make_constant(table), wanted)
    for leaf in leaves[1:]:
        (target,) = leaf.output.get_target_inputs()
        addition = target.get_node()
        redirect(addition.output(0), addition.input_value(1 - target.get_index()))
    redirect(leaves[0].output, joined.output(0))
    return len(leaves)
