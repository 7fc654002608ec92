"""A model with wrong answers for one batch size only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx

ERROR = 0.5


def write_wrong_for(size: int, folder: Path) -> Path:
    """Writes an OpenVINO model in ``folder``, which is created: ``y = x`` [B, 1], but ``x + ERROR`` where B is
    ``size``."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Equal", ["rows", "size"], ["is_size"]),
        helper.make_node("Where", ["is_size", "error", "nothing"], ["added"]),
        helper.make_node("Add", ["x", "added"], ["y"]),
    ]
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1]) for name in ("x", "y")]
    constants = {"first": 0, "size": size, "error": np.float32(ERROR), "nothing": np.float32(0)}
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "wrong_for_size", tensors[:1], tensors[1:], weights)
    path = folder.with_suffix(".onnx")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    folder.mkdir()
    OpenVinoFromOnnx().convert(path, folder)
    return folder
