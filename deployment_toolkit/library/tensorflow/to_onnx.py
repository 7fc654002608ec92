"""Conversion of a TensorFlow function to an ONNX file; the weights do not pass through the converter.

tf2onnx copies its graph, with the weights, once per optimiser, so a large network takes many times its size in memory.
Here the variables enter the converter as graph inputs, and become initialisers of the finished ONNX graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper

from deployment_toolkit.core import Array, ModelSpec
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.files.atomic import require_free_space, size_words
from deployment_toolkit.library.base import SPEC_KEY
from deployment_toolkit.library.onnx.rename import rename_tensors
from deployment_toolkit.library.tensorflow.shapes import weights_bytes

# Protobuf's 2 GiB, less room for the graph itself. Weights in a second file would be lost if only the first file is
# moved or copied, so there is no second file.
_MOST_WEIGHTS_BYTES = 2 * 1024**3 - 64 * 1024**2


def write_onnx(function: Any, spec: ModelSpec, path: Path, *, opset: int) -> None:
    """Writes a concrete function, whose inputs are named as in ``spec``, as the ONNX file ``path``.

    Raises ConversionError if tf2onnx can't express the graph at this opset, or if one file can't hold the weights;
    DataError if the disk is too full.
    """
    weights = _weights_by_placeholder(function)
    needed_bytes = weights_bytes(weights.values())
    if needed_bytes > _MOST_WEIGHTS_BYTES:
        raise ConversionError(
            f"an ONNX file holds {size_words(_MOST_WEIGHTS_BYTES)} of weights and this model has "
            f"{size_words(needed_bytes)}: keep it as a SavedModel"
        )
    require_free_space(path.parent, needed_bytes, "the ONNX file")
    # A SavedModel writes the names inside its graph in lower case, in the order of the signature's sorted names.
    signature = sorted(function.structured_input_signature[1])
    inputs = {tensor.name: name for name, tensor in zip(signature, function.inputs, strict=False)}
    # The outputs of a function that returns a dict are sorted by key, as in the specification.
    outputs = {tensor.name: output.name for tensor, output in zip(function.outputs, spec.outputs, strict=True)}
    graph_def = _inlined(function, [*inputs, *(f"{name}:0" for name in weights)], list(outputs))
    _read_plain_tensors(graph_def, weights)
    try:
        model, _ = tf2onnx.convert.from_graph_def(
            graph_def,
            input_names=[*inputs, *(f"{name}:0" for name in weights)],
            output_names=list(outputs),
            opset=opset,
        )
        onnx.checker.check_model(model)  # tf2onnx leaves nodes in that it can't convert
    except Exception as error:  # tf2onnx passes on any error of its handlers
        raise ConversionError(f"tf2onnx {tf2onnx.__version__} can't write opset {opset}: {error}") from error
    rename_tensors(model.graph, inputs | outputs)
    _fill_in(model.graph, {f"{name}:0": variable.numpy() for name, variable in weights.items()})
    model.metadata_props.add(key=SPEC_KEY, value=json.dumps(spec.to_dict()))
    onnx.save(model, str(path))


def _weights_by_placeholder(function: Any) -> dict[str, Any]:
    """Variables of a concrete function by the name of their graph node, and the numbers that a Keras model keeps as
    tensors, as the 2.0 of ``2.0 * layer``."""
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    return {
        internal.op.name: variables.get(id(external), external)
        for external, internal in function.graph.captures
        if id(external) in variables or (internal.dtype.is_numpy_compatible and internal.dtype != tf.string)
    }


def _inlined(function: Any, inputs: list[str], outputs: list[str]) -> Any:
    """Graph of the function with the functions that it calls inlined."""
    with tf.Graph().as_default():
        tf.import_graph_def(function.graph.as_graph_def(), name="")
        return tf2onnx.tf_loader.tf_optimize(inputs, outputs, tf.compat.v1.get_default_graph().as_graph_def())


def _read_plain_tensors(graph_def: Any, weights: dict[str, Any]) -> None:
    """Turns the resource placeholders into tensor placeholders, and the ops that read them into plain ones."""
    for node in graph_def.node:
        if node.name in weights:
            variable = weights[node.name]
            node.attr["dtype"].type = variable.dtype.as_datatype_enum
            node.attr["shape"].shape.CopyFrom(variable.shape.as_proto())
        elif node.op == "ReadVariableOp":
            node.op = "Identity"
            _rename_attributes(node, {"dtype": "T"})
        elif node.op == "ResourceGather":
            node.op = "GatherV2"
            axis = graph_def.node.add(name=f"{node.name}/axis", op="Const")
            axis.attr["dtype"].type = tf.int32.as_datatype_enum
            axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0))
            node.input.insert(2, axis.name)
            _rename_attributes(node, {"dtype": "Tparams", "Tindices": "Tindices", "batch_dims": "batch_dims"})
            node.attr["Taxis"].type = tf.int32.as_datatype_enum


def _rename_attributes(node: Any, names: dict[str, str]) -> None:
    kept = {new: tf.compat.v1.AttrValue.FromString(node.attr[old].SerializeToString()) for old, new in names.items()}
    node.attr.clear()
    for name, value in kept.items():
        node.attr[name].CopyFrom(value)


def _fill_in(graph: Any, weights: dict[str, Array]) -> None:
    """Moves the weights from the graph's inputs to its initialisers."""
    kept = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
