"""Model control, health and metadata calls and single requests, over HTTP and gRPC."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any, Protocol

from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import InferInput as GrpcInput
from tritonclient.http import InferInput as HttpInput
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import AccessError, ServerError
from deployment_toolkit.server_access.key import REFUSED, REMEDY, ServerKey
from deployment_toolkit.server_access.key_files import find_key
from deployment_toolkit.server_access.tls import tls_problem
from deployment_toolkit.server_access.url import Scheme, ServerUrl
from deployment_toolkit.triton_server.clients import grpc_client, http_client

_CONNECTION_TIMEOUT_S = 5.0
_INT64_FIELDS = frozenset(
    {"dims", "shape", "max_queue_delay_microseconds", "default_timeout_microseconds"}
    | {"priority_levels", "default_priority_level", "count", "ns"}
)
_UNREACHABLE, _LATE = "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED"
_STRANGER = ("StatusCode.UNAUTHENTICATED", "StatusCode.PERMISSION_DENIED", "401", "403")  # from a proxy in front


class AdminClient(Protocol):
    """One connection to a server; answers are those of its JSON interface."""

    def is_ready(self) -> bool: ...

    def is_model_ready(self, name: str, version: str) -> bool: ...

    def load(self, name: str) -> None: ...

    def unload(self, name: str) -> None: ...

    def index(self) -> list[dict[str, Any]]: ...

    def metadata(self, name: str, version: str) -> dict[str, Any]: ...

    def config(self, name: str, version: str) -> dict[str, Any]: ...

    def infer(self, name: str, version: str, x: Arrays) -> None:
        """Sends one request, whose shapes are the model's own, and waits for its answer."""
        ...

    def statistics(self, name: str, version: str) -> dict[str, Any]: ...

    def close(self) -> None: ...


@contextlib.contextmanager
def admin_client(
    url: ServerUrl, *, timeout_s: float, with_key: bool = True, explained: bool = True
) -> Iterator[AdminClient]:
    """Client for a few calls in this thread, each with the limit ``timeout_s``. It sends the server's key, if this user
    has it, with the calls that need it. ``explained``: where nothing answers, some seconds are spent to find out if TLS
    is the cause.

    Raises ServerError, with the server's message on one line, if a call is answered with an error or not at all;
    AccessError if certificates or headers are the cause.
    """
    found = find_key(url) if with_key else None
    address, key = found or (url, None)
    admin = _GrpcAdmin if url.scheme == Scheme.GRPC else _HttpAdmin
    client: AdminClient = admin(address, key, timeout_s)
    try:
        yield client
    except InferenceServerException as error:
        message = " ".join(str(error.message()).split())
        if REFUSED in message:  # over gRPC the status is the same as for an unreachable server
            raise ServerError(f"the server at {url} answered: {message}; {REMEDY}") from error
        if error.status() in _STRANGER:
            raise AccessError(_refused(url, str(error.status()))) from error
        if error.status() in (_LATE, _UNREACHABLE):
            late = error.status() == _LATE
            raise _no_answer(url, _late(url, timeout_s) if late else _silent(url, message), explained) from error
        raise ServerError(f"the server at {url} answered: {message}") from error
    except TimeoutError as error:
        raise _no_answer(url, _late(url, timeout_s), explained) from error
    except (OSError, HTTPException) as error:
        raise _no_answer(url, _silent(url, str(error) or type(error).__name__), explained) from error
    finally:
        client.close()


class _GrpcAdmin:
    def __init__(self, url: ServerUrl, key: ServerKey | None, timeout_s: float) -> None:
        self._client = grpc_client(url)
        self._headers = key.headers(Scheme.GRPC) if key else None
        self._timeout_s = timeout_s

    def is_ready(self) -> bool:
        return bool(self._client.is_server_ready(client_timeout=self._timeout_s))

    def is_model_ready(self, name: str, version: str) -> bool:
        return bool(self._client.is_model_ready(name, version, client_timeout=self._timeout_s))

    def load(self, name: str) -> None:
        self._client.load_model(name, headers=self._headers, client_timeout=self._timeout_s)

    def unload(self, name: str) -> None:
        self._client.unload_model(name, headers=self._headers, client_timeout=self._timeout_s)

    def index(self) -> list[dict[str, Any]]:
        index = self._client.get_model_repository_index(headers=self._headers, client_timeout=self._timeout_s)
        return list(_plain(index)["models"])

    def metadata(self, name: str, version: str) -> dict[str, Any]:
        return _plain(self._client.get_model_metadata(name, version, client_timeout=self._timeout_s))

    def config(self, name: str, version: str) -> dict[str, Any]:
        return dict(_plain(self._client.get_model_config(name, version, client_timeout=self._timeout_s))["config"])

    def infer(self, name: str, version: str, x: Arrays) -> None:
        inputs = [_filled(GrpcInput, name, array) for name, array in x.items()]
        self._client.infer(name, inputs, model_version=version, client_timeout=self._timeout_s)

    def statistics(self, name: str, version: str) -> dict[str, Any]:
        return _plain(self._client.get_inference_statistics(name, version, client_timeout=self._timeout_s))

    def close(self) -> None:
        self._client.close()


class _HttpAdmin:
    def __init__(self, url: ServerUrl, key: ServerKey | None, timeout_s: float) -> None:
        self._headers = key.headers(Scheme.HTTP) if key else None
        self._client = http_client(
            url, connection_timeout=min(timeout_s, _CONNECTION_TIMEOUT_S), network_timeout=timeout_s
        )

    def is_ready(self) -> bool:
        if self._client.is_server_ready():
            return True
        self._client.get_server_metadata()  # raises if a proxy in front refuses this client
        return False

    def is_model_ready(self, name: str, version: str) -> bool:
        return bool(self._client.is_model_ready(name, version))

    def load(self, name: str) -> None:
        self._client.load_model(name, headers=self._headers)

    def unload(self, name: str) -> None:
        self._client.unload_model(name, headers=self._headers)

    def index(self) -> list[dict[str, Any]]:
        return list(self._client.get_model_repository_index(headers=self._headers))

    def metadata(self, name: str, version: str) -> dict[str, Any]:
        return dict(self._client.get_model_metadata(name, version))

    def config(self, name: str, version: str) -> dict[str, Any]:
        return dict(self._client.get_model_config(name, version))

    def infer(self, name: str, version: str, x: Arrays) -> None:
        self._client.infer(name, [_filled(HttpInput, name, array) for name, array in x.items()], model_version=version)

    def statistics(self, name: str, version: str) -> dict[str, Any]:
        return dict(self._client.get_inference_statistics(name, version))

    def close(self) -> None:
        self._client.close()


def _filled(kind: Any, name: str, array: Array) -> Any:
    return kind(name, array.shape, np_to_triton_dtype(array.dtype)).set_data_from_numpy(array)


def _plain(message: Any) -> dict[str, Any]:
    """Converts a message to the form of the server's HTTP interface: with zeros, 64-bit integers as numbers."""
    plain = MessageToDict(message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)
    return dict(_with_numbers(plain))


def _with_numbers(value: Any, field: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_numbers(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item, field) for item in value]
    return int(value) if field in _INT64_FIELDS else value


def _late(url: ServerUrl, timeout_s: float) -> str:
    return f"the server at {url} did not answer within {timeout_s:g} s: is it overloaded, or is it another server?"


def _silent(url: ServerUrl, reason: str) -> str:
    return f"no server answers at {url} ({reason}): start one, or give the address of a running one"


def _no_answer(url: ServerUrl, told: str, explained: bool) -> ServerError:
    problem = tls_problem(url) if explained else None
    if problem is None:
        return ServerError(told)
    return (AccessError if problem.lasting else ServerError)(f"the server at {url} can't be used: {problem.text}")


def _refused(url: ServerUrl, status: str) -> str:
    sent = f"the headers {', '.join(url.access.headers)}" if url.access.headers else "no header that tells who asks"
    return (
        f"the server at {url} refuses this client ({status.removeprefix('StatusCode.')}), which sent {sent}: give the "
        "right one with --header-file or --header-env, or user:password@ in the URL"
    )
