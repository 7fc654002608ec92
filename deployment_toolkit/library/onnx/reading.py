"""ONNX files as messages of protobuf."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.onnx.external import external_files


def read_onnx(path: Path, *, with_external_data: bool = True) -> Any:
    """The ``ModelProto`` of a file, with the weights that are in other files. Raises ModelError if it is no ONNX file
    or weights are missing."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError) as error:
        raise ModelError(f"{path} is no ONNX file: {error}") from error
    if with_external_data:
        external_files(path)  # checks them
        load_weights(model, path.parent)
    return model


def load_weights(model: Any, folder: Path) -> None:
    """Puts the weights from other files, of a model that was read from ``folder``, into its tensors."""
    for tensor in external_tensors(model):
        file, offset, length = weights_of(tensor, folder)
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def weights_of(tensor: Any, folder: Path) -> tuple[Path, int, int]:
    """File of a tensor's weights, and their first byte and number of bytes in it."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    file, offset = folder / told["location"], int(told.get("offset") or 0)
    return file, offset, int(told.get("length") or file.stat().st_size - offset)


def external_tensors(message: Any) -> Iterator[Any]:
    """Tensors of a model, also of subgraphs, attributes and functions, whose weights are in other files."""
    if isinstance(message, onnx.TensorProto):
        if message.data_location == onnx.TensorProto.EXTERNAL:
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in value if field.label == field.LABEL_REPEATED else (value,):
                yield from external_tensors(item)
