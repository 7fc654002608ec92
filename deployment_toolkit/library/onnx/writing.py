"""Writing of ONNX files whose weights may be in other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import onnx

from deployment_toolkit.errors import ConversionError
from deployment_toolkit.files.atomic import require_free_space
from deployment_toolkit.files.scratch import final_name
from deployment_toolkit.library.onnx.external import external_files
from deployment_toolkit.library.onnx.reading import external_tensors, load_weights, read_onnx, weights_of

MOST_BYTES = 2 * 1024**3 - 1024**2  # protobuf's limit of a file, less room for new nodes
_ALIGNMENT = 4096  # a page, for readers that map weights into memory
_CHUNK_BYTES = 2**24


def copy_onnx(source: Path, target: Path) -> None:
    """Copies an ONNX file with its weights, as ``save_onnx`` does. Raises ModelError, DataError."""
    save_onnx(read_onnx(source, with_external_data=False), source, target)


def save_onnx(model: Any, source: Path, target: Path) -> None:
    """Writes a model that was read from ``source`` without its external data, and may have been changed, as one file;
    if protobuf can't hold that, as ``target`` and ``<target>.data`` beside it.

    Raises ModelError if weights are missing, DataError if the disk is too small.
    """
    weights = external_files(source).values()
    needed = model.ByteSize() + sum(file.stat().st_size for file in weights)
    require_free_space(target.parent, needed, "the ONNX file")
    if needed <= MOST_BYTES:
        load_weights(model, source.parent)
    else:
        name = f"{final_name(target)}.data"
        _move_weights(model, source.parent, target.with_name(f"{target.name}.data"), name)
    onnx.save(model, str(target))


def require_one_file(model: Any, source: Path) -> None:
    """Raises ConversionError for a model, with its weights, that protobuf can't hold: before a step that needs that."""
    if model.ByteSize() > MOST_BYTES:
        raise ConversionError(
            f"{source} has more weights than the 2 GiB that this step can take: convert the model to openvino"
        )


def _move_weights(model: Any, folder: Path, target: Path, name: str) -> None:
    """Copies the weights into the file ``target``, and tells the tensors their new places in it, under its later
    name."""
    placed: dict[tuple[Path, int, int], int] = {}
    with target.open("wb") as data:
        for tensor in external_tensors(model):
            source = weights_of(tensor, folder)
            if source not in placed:
                placed[source] = data.seek(-data.tell() % _ALIGNMENT if source[2] else 0, 1)
                _copy_range(*source, data)
            told = {"location": name, "offset": placed[source], "length": source[2]}
            del tensor.external_data[:]
            for key, value in told.items():
                tensor.external_data.add(key=key, value=str(value))


def _copy_range(source: Path, offset: int, length: int, target: BinaryIO) -> None:
    with source.open("rb") as file:
        file.seek(offset)
        while length > 0 and (chunk := file.read(min(length, _CHUNK_BYTES))):
            target.write(chunk)
            length -= len(chunk)
