"""Reading and rebuilding of an ONNX graph: constants, shapes, makers of tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from deployment_toolkit.core import Array

_SMALL = 1024  # numbers; a larger constant says nothing about shapes


class Graph:
    """The main graph of a ``ModelProto``, indexed by names."""

    def __init__(self, model: Any) -> None:
        self.nodes: Sequence[Any] = model.graph.node
        inputs = {value.name for value in model.graph.input}  # a constant among them is a default value
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in inputs}
        self._makers = {name: node for node in self.nodes for name in node.output}
        self._shapes = _shapes(model)
        self._readers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in names_read(node):
                self._readers.setdefault(name, []).append(node)
        self._outputs = {output.name for output in model.graph.output}

    def maker(self, name: str) -> Any | None:
        """The node that makes a tensor; None for an input or a constant."""
        return self._makers.get(name)

    def readers(self, name: str) -> list[Any]:
        """The nodes that read a tensor; none for an output of the model, which others read too."""
        return [] if name in self._outputs else self._readers.get(name, [])

    def constant(self, name: str) -> Array | None:
        """Value of a constant; None if the tensor is no constant."""
        tensor = self._constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def float_table(self, name: str) -> tuple[int, int] | None:
        """Shape of a constant with two dimensions in float32; None for any other tensor."""
        tensor = self._constants.get(name)
        if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
            return None
        return tensor.dims[0], tensor.dims[1]

    def is_bias(self, name: str, channels: int) -> bool:
        """True for a constant [channels] in float32."""
        tensor = self._constants.get(name)
        return tensor is not None and tensor.data_type == TensorProto.FLOAT and list(tensor.dims) == [channels]

    def is_batch(self, name: str) -> bool:
        """True for a tensor that is known to have two dimensions."""
        return len(self._shapes.get(name, ())) == 2

    def width(self, name: str) -> int:
        """Number of columns of a tensor with two dimensions; 0 if it is not known."""
        shape = self._shapes.get(name, ())
        return (shape[1] or 0) if len(shape) == 2 else 0

    def scores(self, outputs: Sequence[Any]) -> list[str]:
        """For each output the tensor before its sigmoid; the output itself if there is no sigmoid."""
        makers = [self.maker(output.name) for output in outputs]
        return [
            node.input[0] if node is not None and node.op_type == "Sigmoid" else output.name
            for output, node in zip(outputs, makers, strict=True)
        ]


def attribute(node: Any, name: str, default: Any) -> Any:
    """Value of a node's attribute."""
    found = (helper.get_attribute_value(item) for item in node.attribute if item.name == name)
    return next(found, default)


def rebuilt(model: Any, nodes: Sequence[Any], tensors: Sequence[Any], domain: str) -> Any:
    """A copy of a model with other nodes, more constants and the operations of one more domain. Nodes and constants
    that no output needs are left out."""
    needed = {output.name for output in model.graph.output}
    kept: list[Any] = []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed |= names_read(node)
    made = _like(model)
    if all(opset.domain != domain for opset in model.opset_import):
        made.opset_import.append(helper.make_opsetid(domain, 1))
    made.graph.node.extend(reversed(kept))
    made.graph.input.extend(model.graph.input)
    made.graph.output.extend(model.graph.output)
    made.graph.initializer.extend(item for item in (*model.graph.initializer, *tensors) if item.name in needed)
    return made


def with_outputs(model: Any, names: Sequence[str]) -> bytes:
    """A file of a model with these tensors as its outputs: its own outputs, or inner ones in float32. The model itself
    is changed meanwhile, not copied: it may be large."""
    own = [copy.deepcopy(output) for output in model.graph.output]
    known = {output.name: output for output in own}
    try:
        del model.graph.output[:]
        model.graph.output.extend(
            known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
        )
        content: bytes = model.SerializeToString()
    finally:
        del model.graph.output[:]
        model.graph.output.extend(own)
    return content


def _like(model: Any) -> Any:
    """A model with the same versions and metadata, and an empty graph."""
    made = onnx.ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    for name in ("opset_import", "functions", "metadata_props"):
        getattr(made, name).extend(getattr(model, name))
    made.graph.name = model.graph.name
    return made


def names_read(node: Any) -> set[str]:
    """Names of the tensors that a node and the graphs in its attributes read."""
    names = set(node.input)
    for item in node.attribute:
        for graph in (*([item.g] if item.HasField("g") else ()), *item.graphs):
            names |= {output.name for output in graph.output}.union(*map(names_read, graph.node))
    return names


def _shapes(model: Any) -> dict[str, list[int | None]]:
    """Shapes that follow from the inputs', by tensor. Large constants take part with their shapes only."""
    bare = _without_values(model)
    graph = shape_inference.infer_shapes(bare).graph
    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            sizes = value.type.tensor_type.shape.dim
            found[value.name] = [size.dim_value if size.HasField("dim_value") else None for size in sizes]
    return found


def _without_values(model: Any) -> Any:
    """A copy of a model whose large constants have a shape and no numbers."""
    made = _like(model)
    for name in ("node", "input", "output", "value_info"):
        getattr(made.graph, name).extend(getattr(model.graph, name))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            made.graph.initializer.append(tensor)
        else:
            made.graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
    return made
