"""ONNX models with weights and arithmetic in float16.

The converter is onnxruntime's (``onnxruntime.transformers.float16``). Inputs and outputs stay float32, ids keep their
type. All nodes between the last matrix products and the outputs stay float32 too: here the sums of the logits, the wide
part's tables of one column, and the sigmoid. They cost almost no time or size, and in float16 different scores would
become equal, so ranks would be tied. An input above 65504 is infinite in float16: features must be normalised, as for
mixed precision training.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import Any

from onnx import TensorProto
from onnxruntime.transformers.float16 import convert_float_to_float16

_PRODUCTS = ("MatMul", "Gemm")


def half_precision(model: Any) -> Any:
    """The model in float16; the argument gets names for its nodes and is of no further use. Raises the errors of the
    converter and of ONNX, which have no common base."""
    _name_nodes(model.graph)
    half = convert_float_to_float16(model, keep_io_types=True, node_block_list=_after_products(model.graph))
    _drop_round_trips(half.graph)
    return half


def _name_nodes(graph: Any) -> None:
    """Gives every node a name: the converter identifies nodes by name, which is optional in ONNX."""
    for number, node in enumerate(graph.node):
        node.name = f"{number}/{node.name}"


def _after_products(graph: Any) -> list[str]:
    """Names of the nodes between the last matrix products and the outputs; empty if the graph has no product."""
    if not any(node.op_type in _PRODUCTS for node in graph.node):
        return []
    makers = {name: node for node in graph.node for name in node.output}
    found: dict[str, Any] = {}
    wanted = [output.name for output in graph.output]
    while wanted:
        node = makers.get(wanted.pop())
        if node is not None and node.op_type not in _PRODUCTS and node.name not in found:
            found[node.name] = node
            wanted += node.input
    return list(found)


def _drop_round_trips(graph: Any) -> None:
    """Removes fp32 -> fp16 -> fp32 casts that the converter leaves between two fp32 nodes."""
    made_wide = {node.output[0]: node.input[0] for node in graph.node if _narrows(node)}
    direct = {
        node.output[0]: made_wide[node.input[0]]
        for node in graph.node
        if _casts_to(node, TensorProto.FLOAT) and node.input[0] in made_wide
    }
    outputs, inputs = {value.name for value in graph.output}, {value.name for value in graph.input}
    names = {wide: name for name, wide in direct.items() if name in outputs and wide not in inputs}
    kept = [node for node in graph.node if node.output[0] not in names.values()]
    for node in kept:
        node.input[:] = [names.get(wide, wide) for wide in (direct.get(name, name) for name in node.input)]
        node.output[:] = [names.get(name, name) for name in node.output]
    unused = [node for node in kept if _is_cast(node) and not _is_used(node.output[0], kept, outputs)]
    while unused:
        kept = [node for node in kept if node not in unused]
        unused = [node for node in kept if _is_cast(node) and not _is_used(node.output[0], kept, outputs)]
    _put_in_order(graph, kept)
    del graph.value_info[:]  # it describes removed tensors; readers infer the rest


def _put_in_order(graph: Any, nodes: Sequence[Any]) -> None:
    """Sorts nodes so that each follows the nodes that feed it, as ONNX requires; the converter appends its casts."""
    makers = {name: number for number, node in enumerate(nodes) for name in node.output}
    needed = {number: [makers[name] for name in node.input if name in makers] for number, node in enumerate(nodes)}
    ordered = [nodes[number] for number in TopologicalSorter(needed).static_order()]
    del graph.node[:]
    graph.node.extend(ordered)


def _is_used(name: str, nodes: Sequence[Any], outputs: set[str]) -> bool:
    return name in outputs or any(name in node.input for node in nodes)


def _is_cast(node: Any) -> bool:
    return bool(node.op_type == "Cast")


def _narrows(node: Any) -> bool:
    """True if the converter added this cast to float16, after a float32 input or after a node kept in float32."""
    own = node.name.startswith("graph_input_cast") or node.name.endswith("_cast_to_fp16_node")
    return own and _casts_to(node, TensorProto.FLOAT16)


def _casts_to(node: Any, dtype: int) -> bool:
    return _is_cast(node) and any(item.name == "to" and item.i == dtype for item in node.attribute)
