"""Small networks with known answers, in each format that a host of this project runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit.core import Array, Format, ModelSpec, TensorSpec
from deployment_toolkit.library.base import SPEC_FILE, SPEC_KEY, store_spec
from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx

ENGINES = (Format.OPENVINO, Format.ONNX, Format.TF_SAVEDMODEL)
ERROR = 0.5
_TYPES = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
_X, _Y = TensorSpec("x", "float32", (1,)), TensorSpec("y", "float32", (1,))


@dataclass(frozen=True)
class Network:
    """A network as nodes of ONNX with constants, and the same as a function of TensorFlow."""

    spec: ModelSpec
    nodes: Sequence[Any]
    constants: Mapping[str, Array]
    function: Callable[..., Any]

    def write(self, model_format: Format, folder: Path) -> Path:
        """Writes the network below ``folder``, which is created; gives the path of the model."""
        folder.mkdir(parents=True)
        if model_format is Format.TF_SAVEDMODEL:
            return self._write_savedmodel(folder / "model.savedmodel")
        path = self._write_onnx(folder / "model.onnx")
        if model_format is Format.ONNX:
            return path
        converted = folder / "converted"
        converted.mkdir()
        OpenVinoFromOnnx().convert(path, converted)
        return converted

    def _write_onnx(self, path: Path) -> Path:
        inputs, outputs = (
            [helper.make_tensor_value_info(one.name, _TYPES[one.dtype], ["batch", *_free(one)]) for one in tensors]
            for tensors in (self.spec.inputs, self.spec.outputs)
        )
        weights = [numpy_helper.from_array(np.asarray(array), name) for name, array in self.constants.items()]
        graph = helper.make_graph(list(self.nodes), "small", inputs, outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        helper.set_model_props(model, {SPEC_KEY: json.dumps(self.spec.to_dict())})
        onnx.save(model, str(path))
        return path

    def _write_savedmodel(self, path: Path) -> Path:
        signature = {one.name: tf.TensorSpec([None, *_free(one)], one.dtype, one.name) for one in self.spec.inputs}
        module = tf.Module()
        module.serve = tf.function(self.function, autograph=False).get_concrete_function(**signature)
        tf.saved_model.save(module, str(path), signatures=module.serve)
        store_spec(path / SPEC_FILE, self.spec)
        return path


def _free(tensor: TensorSpec) -> list[int | None]:
    return [None if size == -1 else size for size in tensor.shape]


def summing() -> Network:
    """``score = 10 * item + the sum of tags + the sum of wide``, ``twice = 2 * item``."""
    table = np.arange(0, 100, 10, dtype=np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "item"], ["looked_up"]),
        helper.make_node("Cast", ["tags"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["tag_sum"]),
        helper.make_node("ReduceSum", ["wide", "axis"], ["wide_sum"]),
        helper.make_node("Sum", ["looked_up", "tag_sum", "wide_sum"], ["score"]),
        helper.make_node("Add", ["item", "item"], ["twice"]),
    ]

    def serve(item: Any, tags: Any, wide: Any) -> Any:
        sums = [tf.reduce_sum(tf.cast(one, tf.float32), axis=1, keepdims=True) for one in (tags, wide)]
        return {"score": tf.gather(tf.constant(table), item) + sums[0] + sums[1], "twice": item + item}

    item = TensorSpec("item", "int64", (1,), (0, 9))
    tags = TensorSpec("tags", "int32", (3,), (-1, 4))
    outputs = (TensorSpec("score", "float32", (1,)), TensorSpec("twice", "int64", (1,)))
    spec = ModelSpec((item, tags, TensorSpec("wide", "float32", (-1,))), outputs)
    return Network(spec, nodes, {"table": table, "axis": np.array([1])}, serve)


def ranking() -> Network:
    """``score = 10 * item + the sums of tags, of amount and of numerical_features``; its inputs can be packed, and one
    has the name of a packed input."""
    table = np.arange(0, 100, 10, dtype=np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "item"], ["looked_up"]),
        helper.make_node("Cast", ["tags"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["numbers", "amount", "numerical_features"], ["joined"], axis=1),
        helper.make_node("ReduceSum", ["joined", "axis"], ["sum"]),
        helper.make_node("Add", ["looked_up", "sum"], ["score"]),
    ]

    def serve(item: Any, tags: Any, amount: Any, numerical_features: Any) -> Any:
        joined = tf.concat([tf.cast(tags, tf.float32), amount, numerical_features], axis=1)
        return {"score": tf.gather(tf.constant(table), item) + tf.reduce_sum(joined, axis=1, keepdims=True)}

    inputs = (
        TensorSpec("amount", "float32", (1,)),
        TensorSpec("item", "int64", (1,), (0, 9)),
        TensorSpec("numerical_features", "float32", (2,)),
        TensorSpec("tags", "int32", (3,), (-1, 4)),
    )
    spec = ModelSpec(inputs, (TensorSpec("score", "float32", (1,)),))
    return Network(spec, nodes, {"table": table, "axis": np.array([1])}, serve)


def reshaping(*, doubling: bool) -> Network:
    """``y``, with one number a row, made of ``x``, which may have any width: it works for width 1 only. For other
    widths it fails, or with ``doubling`` it has more rows."""
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    wanted = np.array([-1 if doubling else 0, 1])  # 0 keeps the number of rows

    def serve(x: Any) -> Any:
        return {"y": tf.reshape(x, [-1 if doubling else tf.shape(x)[0], 1])}

    return Network(ModelSpec((TensorSpec("x", "float32", (-1,)),), (_Y,)), nodes, {"shape": wanted}, serve)


def wrong_for(size: int) -> Network:
    """``y = x`` [B, 1], but ``x + ERROR`` where B is ``size``."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Equal", ["rows", "size"], ["is_size"]),
        helper.make_node("Where", ["is_size", "error", "nothing"], ["added"]),
        helper.make_node("Add", ["x", "added"], ["y"]),
    ]

    def serve(x: Any) -> Any:
        return {"y": x + tf.where(tf.equal(tf.shape(x)[0], size), ERROR, 0.0)}

    numbers = {"first": 0, "size": size, "error": np.float32(ERROR), "nothing": np.float32(0)}
    return Network(
        ModelSpec((_X,), (_Y,)), nodes, {name: np.asarray(number) for name, number in numbers.items()}, serve
    )


def products(size: int) -> Network:
    """``y`` [B, 1] made of ``x`` [B, 1] by layers of ``size`` numbers, for which OpenVINO takes oneDNN."""
    random = np.random.default_rng(size)
    shapes = {"first": (1, size), "middle": (size, size), "last": (size, 1)}
    weights = {name: (random.random(shape) / size).astype(np.float32) for name, shape in shapes.items()}
    nodes, last = [], "x"
    for name in shapes:
        nodes.append(helper.make_node("MatMul", [last, name], [f"{name}_product"]))
        last = "y" if name == "last" else f"{name}_layer"
        nodes.append(helper.make_node("Relu", [f"{name}_product"], [last]))

    def serve(x: Any) -> Any:
        for weight in weights.values():
            x = tf.nn.relu(tf.matmul(x, tf.constant(weight)))
        return {"y": x}

    return Network(ModelSpec((_X,), (_Y,)), nodes, weights, serve)
