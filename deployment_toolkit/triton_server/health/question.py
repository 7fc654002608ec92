"""One row for a model, which it can answer if it is healthy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from deployment_toolkit.core import Array, Arrays, TensorSpec
from deployment_toolkit.errors import DataError, InferenceError, ServerError
from deployment_toolkit.rows.sample import nearest_to_zero
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.admin import AdminClient, admin_client
from deployment_toolkit.triton_server.remote import described_spec

T = TypeVar("T")

_STRINGS = "BYTES"
_LEAST_S = 0.1
_NOT_NOW = ("503", "StatusCode.UNAVAILABLE", "StatusCode.DEADLINE_EXCEEDED")


@dataclass(frozen=True)
class Question:
    """A request of one row: the inputs in the shapes of the model's own, and the model's configuration."""

    name: str
    version: str
    x: Arrays
    config: dict[str, Any]

    @classmethod
    def make(
        cls, url: ServerUrl, name: str, version: str, deadline: float, row: Mapping[str, Any] | None = None
    ) -> Question:
        """Makes the request for a model by its signature on the server: zeros, or the value nearest to zero inside each
        range; ``row`` has other values, by input. An empty version is the server's choice.

        Raises ServerError if the server does not tell the signature before ``deadline`` (``time.monotonic``), or if the
        model takes strings, of which nothing tells the right ones; DataError if ``row`` does not fit.
        """
        metadata = within(url, deadline, lambda client: client.metadata(name, version))
        config = within(url, deadline, lambda client: client.config(name, version))
        optional = {item["name"] for item in config.get("input", ()) if item.get("optional")}
        inputs = [item for item in metadata["inputs"] if item["name"] not in optional or item["name"] in (row or {})]
        x = _values(inputs, row) if row is not None else _nearest_to_zero(name, inputs, config)
        return cls(name, version, x, config)

    def ask(self, url: ServerUrl, deadline: float) -> None:
        """Sends the request. Raises InferenceError if the model answers with an error; ServerError if it does not
        answer before ``deadline``, or can't now, as with a full queue."""
        try:
            within(url, deadline, lambda client: client.infer(self.name, self.version, self.x))
        except ServerError as error:
            cause = error.__cause__
            if isinstance(cause, InferenceServerException) and cause.status() not in _NOT_NOW:
                raise InferenceError(str(error)) from error
            raise


def read_row(path: Path) -> dict[str, Any]:
    """The row in a JSON file: ``{input: value, or list of the values of its row}``. Raises DataError."""
    try:
        row = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"no row can be read from {path}: {' '.join(str(error).split())}") from error
    if not isinstance(row, dict):
        raise DataError(f"{path} holds no row: write a JSON object with a value or a list for each input")
    return row


def within(url: ServerUrl, deadline: float, call: Callable[[AdminClient], T]) -> T:
    """The result of a call that ends before ``deadline`` (``time.monotonic``). Raises ServerError if it does not."""
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise ServerError(f"the server at {url} did not answer in time")
    with admin_client(url, timeout_s=max(_LEAST_S, round(left_s, 1))) as client:
        return call(client)


def _nearest_to_zero(name: str, inputs: list[dict[str, Any]], config: Mapping[str, Any]) -> Arrays:
    strings = [item["name"] for item in inputs if item["datatype"] == _STRINGS]
    if strings:
        raise ServerError(
            f"model {name} takes strings ({', '.join(strings)}), so no row can be made up that it must answer: give one"
        )
    described = described_spec(name, config.get("parameters", {}))
    stated = {tensor.name: tensor for tensor in (described.inputs if described is not None else ())}
    return {item["name"]: _nearest(item, stated.get(item["name"])) for item in inputs}


def _nearest(item: Mapping[str, Any], stated: TensorSpec | None) -> Array:
    shape = tuple(1 if int(size) == -1 else int(size) for size in item["shape"])
    dtype = np.dtype(triton_to_np_dtype(item["datatype"])).name
    if stated is not None and stated.columns:
        parts = [nearest_to_zero(column, (column.row_size,)) for column in stated.columns]
        return np.concatenate(parts).astype(dtype).reshape(shape)
    value_range = None if stated is None else stated.value_range
    return nearest_to_zero(TensorSpec(item["name"], dtype, shape, value_range), shape)


def _values(inputs: list[dict[str, Any]], row: Mapping[str, Any]) -> Arrays:
    names = {item["name"] for item in inputs}
    if names != row.keys():
        missing, unknown = sorted(names - row.keys()), sorted(row.keys() - names)
        raise DataError(f"the row does not have the model's inputs: missing {missing}, unknown {unknown}")
    x = {}
    for item in inputs:
        first, *rest = (int(size) for size in item["shape"])
        try:
            values = np.asarray(row[item["name"]], triton_to_np_dtype(item["datatype"]))
            x[item["name"]] = values.reshape([1 if first == -1 else first, *_sizes(rest, values)])
        except (ValueError, TypeError, OverflowError) as error:
            told = " ".join(str(error).split())
            raise DataError(f"the row's {item['name']} is no {item['datatype']} {item['shape']}: {told}") from error
    return x


def _sizes(rest: list[int], values: Array) -> list[int]:
    """Sizes of a row's dimensions; where several are free, those of the values themselves."""
    return list(values.shape) if rest.count(-1) > 1 else rest
