"""Narrowest number format of a SavedModel, read without TensorFlow, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import ModelError

_NARROW = {19: Precision.FP16, 14: Precision.BF16}  # DT_HALF and DT_BFLOAT16 of types.proto
# Numbers of the fields from a SavedModel to the nodes of its graph, and to those of the graph's functions. Source:
# saved_model.proto, meta_graph.proto, graph.proto, function.proto.
_NODES = ((2, 2, 1), (2, 2, 2, 1, 3))
_TYPES = (5, 2, 6)  # from a node to the types among its attributes: node_def.proto, attr_value.proto


def narrowest(path: Path) -> Precision:
    """Narrowest float format of the graph and its functions, for a SavedModel's folder. Raises ModelError if it can't
    be read."""
    file = path / "saved_model.pb"
    try:
        content = file.read_bytes()
        found = {kind for nodes in _NODES for node in _fields(content, nodes) for kind in _fields(node, _TYPES)}
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} is no SavedModel ({error}): export the model first") from error
    return next((precision for kind, precision in _NARROW.items() if kind in found), Precision.FP32)


def _fields(message: bytes, numbers: tuple[int, ...]) -> Iterator[Any]:
    """Values of a nested field of a message whose type is not known here."""
    first, *rest = numbers
    for field in UnknownFieldSet(Empty.FromString(message)):
        if field.field_number == first:
            yield from _fields(field.data, tuple(rest)) if rest else [field.data]
