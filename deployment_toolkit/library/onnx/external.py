"""External data of ONNX files: weights in other files, as of a model over protobuf's 2 GiB.

A tensor names its file relative to the ONNX file. Only such names and positions are read, with no weights, so that it
takes a millisecond for a file of any size and needs no package. Source of the numbers: ``onnx.proto``.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from deployment_toolkit.errors import ModelError

_TENSOR = "TensorProto"
# Messages that a message holds, by their fields.
_HELD = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: _TENSOR, 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        **{5: _TENSOR, 6: "GraphProto", 10: _TENSOR, 11: "GraphProto"},
        **{22: "SparseTensorProto", 23: "SparseTensorProto"},
    },
    "SparseTensorProto": {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, 1
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_MOST_BITS = 64
_NUMBER = re.compile("[0-9]{1,18}")


def external_files(path: Path) -> dict[str, Path]:
    """Files with the weights of an ONNX file, by their names relative to its folder; none for another kind of file.

    Raises ModelError for a name that leads out of the folder, and for a file that is missing or too short.
    """
    needed: dict[str, int] = {}
    for place in _places(path):
        location = place.get("location", "")
        name = PurePosixPath(location)
        if not name.parts or name.is_absolute() or ".." in name.parts or "\0" in location:
            raise ModelError(
                f"{path} keeps weights in {location!r}, which is not in its folder: save it with its weights beside it"
            )
        offset, length = (place.get(key) or "0" for key in ("offset", "length"))
        if not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(length)):
            place_told = f"at {offset[:30]!r}, {length[:30]!r} bytes"
            raise ModelError(f"{path} keeps weights in {location} {place_told}: save it anew")
        needed[str(name)] = max(int(offset) + int(length), needed.get(str(name), 0))
    for location, size in needed.items():
        file = path.parent / location
        if not file.is_file():
            raise ModelError(f"{path} keeps weights in {file}, which is missing: copy it there too")
        if file.stat().st_size < size:
            raise ModelError(
                f"{path} keeps weights in {file}, which has {file.stat().st_size} of {size} bytes: copy it again"
            )
    return {location: path.parent / location for location in sorted(needed)}


def _places(path: Path) -> list[dict[str, str]]:
    """The entries ``location``, ``offset`` and ``length`` of each tensor with external data."""
    with path.open("rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return list(_tensors(data, "ModelProto", 0, len(data)))
        except (ValueError, IndexError, RecursionError):  # no ONNX file; its reader says so
            return []


def _tensors(data: mmap.mmap, kind: str, start: int, end: int) -> Iterator[dict[str, str]]:
    entries: dict[str, str] = {}
    is_external = False
    for number, value in _fields(data, start, end):
        if isinstance(value, int):
            is_external = is_external or (kind == _TENSOR and number == _DATA_LOCATION and value == _EXTERNAL)
        elif kind == _TENSOR and number == _EXTERNAL_DATA:
            texts = {part: data[span[0] : span[1]].decode() for part, span in _spans(data, *value)}
            entries[texts.get(1, "")] = texts.get(2, "")
        elif number in _HELD[kind]:
            yield from _tensors(data, _HELD[kind][number], *value)
    if is_external:
        yield entries


def _spans(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    return ((number, value) for number, value in _fields(data, start, end) if not isinstance(value, int))


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """Numbers of a message's fields, with the value of an integer or the position of bytes. Raises ValueError or
    IndexError for what is no message."""
    while start < end:
        tag, start = _varint(data, start)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, start = _varint(data, start)
            yield number, value
            continue
        size = _FIXED_SIZES.get(wire)
        if wire == _BYTES:
            size, start = _varint(data, start)
        if size is None or start + size > end:
            raise ValueError("this is no message of protobuf")
        if wire == _BYTES:
            yield number, (start, start + size)
        start += size


def _varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """An integer of seven bits a byte, and the position after it."""
    value = shift = 0
    while True:
        byte = data[start]
        start += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, start
        if shift > _MOST_BITS:
            raise ValueError("a number has more than 64 bits")
