"""Requests for inference as they cross the network, over HTTP and gRPC, so that nothing repairs an odd one on its way.

Formats: Triton's HTTP/REST protocol with its extension for binary tensors, and the message ModelInferRequest of gRPC.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit

import grpc
from tritonclient.grpc import service_pb2

from deployment_toolkit.core import Arrays
from deployment_toolkit.server_access.url import ServerUrl

_TIMEOUT_S = 30.0
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
DATATYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


class Answer(StrEnum):
    """What a request got."""

    ANSWERED = "answered"
    REFUSED = "refused"
    NONE = "none"  # the connection was closed, or nothing came in time


@dataclass(frozen=True)
class WireTensor:
    """Input of a request; ``data`` are its bytes, which need not fit ``shape`` and ``datatype``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class WireRequest:
    """Request for inference. ``head`` and ``length`` replace the JSON of an HTTP request and the text of its header
    ``Inference-Header-Content-Length``; ``cut`` are bytes that are missing at the end of the body or message."""

    model: str
    inputs: tuple[WireTensor, ...]
    version: str = "1"
    outputs: tuple[str, ...] = ()
    region: str = ""  # shared memory in which the first input lies
    head: bytes | None = None
    length: str | None = None
    cut: int = 0


class Connection(Protocol):
    """Connection to a server, for one thread."""

    def send(self, request: WireRequest) -> Answer:
        """Sends a request and waits for what it gets. Raises ConnectionError if there is no server."""
        ...

    def close(self) -> None: ...


def wire_request(model: str, rows: Arrays) -> WireRequest:
    """A right request with these inputs [B, …]."""
    inputs = [WireTensor(name, DATATYPES[x.dtype.name], x.shape, x.tobytes()) for name, x in rows.items()]
    return WireRequest(model, tuple(inputs))


class HttpConnection:
    """Kept-alive connection over HTTP; after an error it is opened anew."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc
        self._connection: http.client.HTTPConnection | None = None

    def send(self, request: WireRequest) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_S)
            self._connection.connect()
        head, body = _http_parts(request)
        headers = {"Inference-Header-Content-Length": request.length or str(len(head))}
        headers |= {"Content-Length": str(len(head) + len(body))}
        path = f"/v2/models/{request.model}/versions/{request.version}/infer"
        sent = (head + body)[: len(head) + len(body) - request.cut]
        try:
            self._connection.request("POST", path, sent, headers)
            if request.cut and self._connection.sock is not None:
                self._connection.sock.shutdown(socket.SHUT_WR)
            response = self._connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return Answer.NONE
        if response.will_close or request.cut:
            self.close()
        return Answer.ANSWERED if response.status == http.HTTPStatus.OK else Answer.REFUSED

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class GrpcConnection:
    """Channel of gRPC, which opens its connection anew by itself."""

    def __init__(self, url: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.enable_http_proxy", 0)]
        self._channel = grpc.insecure_channel(ServerUrl.parse(url).address, options)
        self._call: Any = self._channel.unary_unary(_METHOD)

    def send(self, request: WireRequest) -> Answer:
        try:
            self._call(_grpc_message(request), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE and "failed to connect" in str(error.details()):
                raise ConnectionRefusedError(error.details()) from error
            return Answer.NONE if code is grpc.StatusCode.DEADLINE_EXCEEDED else Answer.REFUSED
        return Answer.ANSWERED

    def close(self) -> None:
        self._channel.close()


def connect(url: str) -> Connection:
    """Connection for the protocol of a server's URL."""
    return GrpcConnection(url) if url.startswith("grpc") else HttpConnection(url)


def _http_parts(request: WireRequest) -> tuple[bytes, bytes]:
    """JSON and binary tensors of a body."""
    inputs: list[dict[str, object]] = []
    data: list[bytes] = []
    for number, one in enumerate(request.inputs):
        where: dict[str, object] = {"binary_data_size": len(one.data)}
        if request.region and number == 0:
            where = {"shared_memory_region": request.region, "shared_memory_byte_size": len(one.data)}
        else:
            data.append(one.data)
        inputs.append({"name": one.name, "datatype": one.datatype, "shape": list(one.shape), "parameters": where})
    head: dict[str, object] = {"inputs": inputs}
    if request.outputs:
        head["outputs"] = [{"name": name} for name in request.outputs]
    return request.head if request.head is not None else json.dumps(head).encode(), b"".join(data)


def _grpc_message(request: WireRequest) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=request.model, model_version=request.version)
    for number, one in enumerate(request.inputs):
        tensor = message.inputs.add(name=one.name, datatype=one.datatype, shape=_int64(one.shape))
        if request.region and number == 0:
            tensor.parameters["shared_memory_region"].string_param = request.region
            tensor.parameters["shared_memory_byte_size"].int64_param = len(one.data)
        else:
            message.raw_input_contents.append(one.data)
    for name in request.outputs:
        message.outputs.add(name=name)
    text = bytes(message.SerializeToString())
    return text[: len(text) - request.cut]


def _int64(shape: Sequence[int]) -> list[int]:
    """Dimensions as gRPC can carry them: beyond 64 bits the lower 64."""
    return [(size + 2**63) % 2**64 - 2**63 for size in shape]
