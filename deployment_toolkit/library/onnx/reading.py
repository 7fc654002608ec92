"""ONNX files as messages of protobuf."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deployment_toolkit.errors import ModelError


def read_onnx(path: Path, *, with_external_data: bool = True) -> Any:
    """The ``ModelProto`` of a file, with the tensors of its second file if it has one. Raises ModelError if it is no
    ONNX file."""
    try:
        return onnx.load(str(path), load_external_data=with_external_data)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} is no ONNX file: {error}") from error
