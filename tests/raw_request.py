"""Requests whose shapes do not fit their data, which no client library sends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import np_to_triton_dtype

from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access import private_options
from deployment_toolkit.triton_server.remote import TritonServer

LIKE_NONE = 2**32  # what is left in 32 bits; Triton asks for the bytes of one row then
LIKE_ONE = 2**62 + 1  # rows of 4, 8 or 12 bytes: a multiple of 2^64 bytes more than one row has
_TIMEOUT_S = 60


def answer_of(server: TritonServer, model: str, x: Arrays, rows: int, scheme: str) -> str:
    """Sends the bytes of ``x`` with shapes of so many rows, over ``http`` or ``grpc``. Returns the error, or an empty
    text if there is none."""
    shapes = {name: [rows, *array.shape[1:]] for name, array in x.items()}
    return _over_http(server, model, x, shapes) if scheme == "http" else _over_grpc(server, model, x, shapes)


def _over_http(server: TritonServer, model: str, x: Arrays, shapes: Mapping[str, list[int]]) -> str:
    inputs = [
        {
            "name": name,
            "datatype": np_to_triton_dtype(array.dtype),
            "shape": shapes[name],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in x.items()
    ]
    header = json.dumps({"inputs": inputs}).encode()
    request = urllib.request.Request(
        f"{server.http_url}/v2/models/{model}/infer",
        header + b"".join(array.tobytes() for array in x.values()),
        {"Inference-Header-Content-Length": str(len(header))},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        return str(json.loads(error.read())["error"])
    return ""


def _over_grpc(server: TritonServer, model: str, x: Arrays, shapes: Mapping[str, list[int]]) -> str:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, array in x.items():
        request.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=shapes[name])
        request.raw_input_contents.append(array.tobytes())
    with grpc.insecure_channel(server.grpc_url.partition("://")[2]) as channel:
        try:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.details())
    return ""


@contextmanager
def unchecked_shapes(folder: Path) -> Iterator[None]:
    """Servers that are started in the block pass on any shape, as servers do that this project does not start."""
    sources = folder / "private_options"
    sources.mkdir()
    source = private_options._SOURCES / "private_options.cpp"
    (sources / source.name).write_bytes(source.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(private_options, "_SOURCES", sources)
        patch.setattr(private_options, "_CACHE", folder / "private_options_build")
        yield
