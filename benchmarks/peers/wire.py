"""Encodings of rows and probabilities over HTTP, one per protocol, each with the least overhead that the servers
document."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from deployment_toolkit.core import Array, Arrays, ModelSpec
from deployment_toolkit.packing import pack

_HEADER_LENGTH = "Inference-Header-Content-Length"
_KSERVE_TYPES = {"float32": "FP32", "int32": "INT32"}


@dataclass(frozen=True)
class Body:
    """Body of a POST request."""

    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Wire:
    """A protocol: ``encode`` makes a body from rows, ``decode`` reads the probabilities, [B], from an answer's content
    and headers."""

    title: str
    encode: Callable[[Arrays], Body]
    decode: Callable[[bytes, Mapping[str, str]], Array]


def records(x: Arrays) -> Array:
    """Rows as records, [B]: the inputs of a row next to each other, sorted by name."""
    names = sorted(x)
    rows = np.empty(len(x[names[0]]), np.dtype([(name, x[name].dtype, x[name].shape[1:]) for name in names]))
    for name in names:
        rows[name] = x[name]
    return rows


def _encode_records(x: Arrays) -> Body:
    return Body(records(x).tobytes(), {"Content-Type": "application/octet-stream"})


def _decode_floats(content: bytes, headers: Mapping[str, str]) -> Array:
    return np.frombuffer(content, np.float32)


def _encode_kserve(x: Arrays) -> Body:
    """Encodes rows for KServe's protocol. Source: Triton's HTTP protocol, extension binary tensor data."""
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _KSERVE_TYPES[array.dtype.name],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in sorted(x.items())
    ]
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}, separators=(",", ":")).encode()
    tensors = [np.ascontiguousarray(array).tobytes() for _, array in sorted(x.items())]
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(header))}
    return Body(b"".join([header, *tensors]), headers)


def _decode_kserve(content: bytes, headers: Mapping[str, str]) -> Array:
    return np.frombuffer(content[int(headers[_HEADER_LENGTH]) :], np.float32)


def _encode_base64(x: Arrays) -> Body:
    rows = base64.b64encode(records(x).tobytes()).decode()
    entry = {"name": "rows", "shape": [1], "datatype": "BYTES", "parameters": {"content_type": "base64"}}
    content = json.dumps({"inputs": [entry | {"data": [rows]}]}, separators=(",", ":")).encode()
    return Body(content, {"Content-Type": "application/json"})


def _decode_base64(content: bytes, headers: Mapping[str, str]) -> Array:
    return np.frombuffer(base64.b64decode(json.loads(content)["outputs"][0]["data"][0]), np.float32)


def _encode_numbers(x: Arrays) -> Body:
    rows = len(next(iter(x.values())))
    columns = [array.reshape(rows, -1).tolist() for _, array in sorted(x.items())]
    lists = [[_short(number) for part in row for number in part] for row in zip(*columns, strict=True)]
    content = json.dumps({"rows": lists}, separators=(",", ":")).encode()
    return Body(content, {"Content-Type": "application/json"})


def _short(number: float) -> float:
    """The same float32 with fewer digits."""
    return number if isinstance(number, int) else float(f"{number:.9g}")


def _decode_numbers(content: bytes, headers: Mapping[str, str]) -> Array:
    return np.asarray(json.loads(content), np.float32).reshape(-1)


RECORDS = Wire("octet-stream, a record a row", _encode_records, _decode_floats)
KSERVE_BINARY = Wire("KServe v2, 29 binary tensors", _encode_kserve, _decode_kserve)
KSERVE_BASE64 = Wire("KServe v2 JSON, the rows' records as one base64 element", _encode_base64, _decode_base64)
KSERVE_PACKED_TITLE = "KServe v2, 2 binary tensors"
NUMBERS = Wire("JSON, an array of numbers", _encode_numbers, _decode_numbers)


def kserve_packed(spec: ModelSpec) -> Wire:
    """KServe's protocol with the rows packed for a model's signature."""
    return replace(KSERVE_BINARY, title=KSERVE_PACKED_TITLE, encode=lambda x: _encode_kserve(pack(x, spec)))


def kserve_path(model_name: str) -> str:
    """Path of KServe's protocol for requests to a model."""
    return f"/v2/models/{model_name}/infer"
