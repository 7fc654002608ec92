"""Narrowest number format of an ONNX file, and how an int8 file was made. The whole file is read: a third of a second
for the full-size network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx import TensorProto

from deployment_toolkit.core import Precision
from deployment_toolkit.library.int8_choice import described
from deployment_toolkit.library.onnx.reading import read_onnx

_NARROW = {TensorProto.FLOAT16: Precision.FP16, TensorProto.BFLOAT16: Precision.BF16}
_KEPT, _NOISE = "layers_in_higher_precision", "noise"  # in the file's metadata


def narrowest(path: Path) -> Precision:
    """Narrowest format of weights, casts and quantized operations. Raises ModelError if the file is no ONNX file."""
    graph = read_onnx(path, with_external_data=False).graph
    if any("quantize" in node.op_type.lower() or "Integer" in node.op_type for node in graph.node):
        return Precision.INT8
    casts = {item.i for node in graph.node if node.op_type == "Cast" for item in node.attribute if item.name == "to"}
    found = casts | {weight.data_type for weight in graph.initializer}
    return next((precision for dtype, precision in _NARROW.items() if dtype in found), Precision.FP32)


def note_int8(model: Any, kept: Sequence[str], noise: float) -> None:
    """Writes into a model's metadata which layers stayed in float32, and the noise."""
    for key, value in ((_KEPT, " ".join(kept)), (_NOISE, f"{noise:.2g}")):
        model.metadata_props.add(key=key, value=value)


def describe_int8(path: Path) -> str:
    """Phrase about how an int8 file was made; empty if ``note_int8`` wrote nothing into it. Raises ModelError if the
    file is no ONNX file."""
    told = {entry.key: entry.value for entry in read_onnx(path, with_external_data=False).metadata_props}
    return described(told.get(_KEPT, "").split(), told[_NOISE]) if _NOISE in told else ""
