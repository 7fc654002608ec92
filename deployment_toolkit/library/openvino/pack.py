"""Packing of an OpenVINO model's inputs (``deployment_toolkit.packing``).

A ``VariadicSplit`` takes the packed input apart. Concatenations of several inputs are fed from the packed input
directly: the network joins its numbers, and ``graph.py`` the ids of its scalar tables, anyway.

The answers stay the same bit for bit, but for one case: in bfloat16 the CPU plugin leaves an input in float32 for an
elementwise operation that reads it, and rounds the parts of a split.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from openvino import PartialShape, Type, op, opset8

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.library.openvino.graph import make_constant


def pack_inputs(model: Any, spec: ModelSpec) -> None:
    """Gives a model the inputs of ``spec``, its packed signature, in place."""
    own = {port.any_name: port.get_node() for port in model.inputs}
    batch = next(iter(own.values())).get_partial_shape()[0]
    for tensor in spec.inputs:
        parameters = [own[column.name] for column in tensor.columns]
        packed = op.Parameter(Type(np.dtype(tensor.dtype)), PartialShape([batch, *tensor.shape]))
        packed.set_friendly_name(tensor.name)
        packed.output(0).set_names({tensor.name})
        _join(model, packed, tensor, parameters)
        _split(packed, tensor, parameters)
        for parameter in parameters:
            model.remove_parameter(parameter)
        model.add_parameters([packed])
    model.validate_nodes_and_infer_types()


def _join(model: Any, packed: Any, tensor: TensorSpec, parameters: Sequence[Any]) -> None:
    """Replaces each concatenation of own inputs by columns of the packed one."""
    ends = itertools.accumulate(column.row_size for column in tensor.columns)
    places = {
        parameter.get_name(): range(end - column.row_size, end)
        for parameter, column, end in zip(parameters, tensor.columns, ends, strict=True)
        if column.dtype == tensor.dtype and len(column.shape) == 1
    }
    for node in model.get_ordered_ops():
        if node.get_type_name() != "Concat" or node.get_attributes()["axis"] not in (1, -1) or _is_answer(node):
            continue
        sources = [_without_cast(node.input_value(port)) for port in range(node.get_input_size())]
        if all(name in places for name in sources):
            wanted = [place for name in sources for place in places[name]]
            # The CPU plugin rounds to bfloat16 before a concatenation or a gather, but not before every reader of an
            # input; so numbers, which may be rounded, are gathered also where it is all of them.
            whole = wanted == list(range(tensor.row_size)) and tensor.dtype != "float32"
            _connect(node.output(0), packed.output(0) if whole else _take(packed, wanted))


def _split(packed: Any, tensor: TensorSpec, parameters: Sequence[Any]) -> None:
    """Connects the readers of the own inputs to parts of the packed one."""
    if not any(parameter.output(0).get_target_inputs() for parameter in parameters):
        return
    sizes = [column.row_size for column in tensor.columns]
    split = opset8.variadic_split(packed, _integers(1), _integers(sizes))
    for parameter, column, part in zip(parameters, tensor.columns, split.outputs(), strict=True):
        made = part
        if len(column.shape) != 1:
            made = opset8.reshape(made, _integers([0, *column.shape]), special_zero=True).output(0)  # 0: the batch
        if column.dtype != tensor.dtype:
            made = opset8.convert(made, Type(np.dtype(column.dtype)).get_type_name()).output(0)
        _connect(parameter.output(0), made)


def _take(packed: Any, places: Sequence[int]) -> Any:
    return opset8.gather(packed, _integers(places), _integers(1)).output(0)


def _integers(values: int | Sequence[int]) -> Any:
    return make_constant(np.array(values, np.int64))


def _without_cast(output: Any) -> str:
    """Name of the node that makes a tensor, before a cast to the type that it has already."""
    node = output.get_node()
    if node.get_type_name() == "Convert" and node.input_value(0).get_element_type() == node.get_element_type():
        node = node.input_value(0).get_node()
    return str(node.get_name())


def _is_answer(node: Any) -> bool:
    return any(target.get_node().get_type_name() == "Result" for target in node.output(0).get_target_inputs())


def _connect(old: Any, new: Any) -> None:
    """Connects the readers of ``old`` to ``new``; if a model's output is among them, it keeps its name."""
    if _is_answer(old.get_node()):
        new.set_names(old.get_names())
    for target in old.get_target_inputs():
        target.replace_source_output(new)
