"""Check of the JSON in a request for inference over HTTP (KServe's protocol, version 2). Triton reserves memory for a
shape before it looks at the data, and cuts integers to the width of their type."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import chain
from typing import Any, NoReturn

_MOST_LEVELS = 32  # of lists in a tensor's data
_MOST_SHOWN = 60  # characters of what a client sent
_LARGEST_DIMENSION = 2**31 - 1
_WIDTHS = {"BOOL": 1, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8} | {
    f"{sign}INT{8 * width}": width for width in (1, 2, 4, 8) for sign in ("", "U")
}
_LARGEST_FLOATS = {"FP16": 65504.0, "BF16": 3.3895314e38, "FP32": 3.4028235e38, "FP64": 1.7976931348623157e308}
_NO_BYTES = "BYTES"


class RefusedRequest(Exception):
    """The request must not reach the server; the message is for its client."""


def check_request(text: bytes) -> None:
    """Raises RefusedRequest unless the server can take the request as it is meant.

    ``text`` is the JSON of a request, without the binary tensors that may follow it. It has to be strict JSON in UTF-8
    without NaN, infinities and repeated names. The product of each input's shape has to be the number of its values in
    ``data``, or to fit its ``binary_data_size``, and each value has to fit the input's ``datatype``.
    """
    request = _parsed(text)
    inputs = request.get("inputs") if isinstance(request, dict) else None
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise RefusedRequest("the request has no list of 'inputs'")
    for tensor in inputs:
        _check_tensor(tensor)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:  # after some thousand levels at most
        raise RefusedRequest("the JSON is nested too deeply") from None
    except ValueError as error:  # also for text that is not UTF-8, and for integers of thousands of digits
        raise RefusedRequest(f"the JSON can't be read: {_shown(str(error))}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Of a name that comes twice, readers take different values."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedRequest("the JSON has an object with a repeated name")
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise RefusedRequest(f"the JSON has the number {word}: only finite numbers are answered")


def _check_tensor(tensor: dict[str, Any]) -> None:
    name, datatype = tensor.get("name"), tensor.get("datatype")
    title = f"input {_shown(str(name))!r}"
    if not isinstance(datatype, str) or datatype not in (*_WIDTHS, _NO_BYTES):
        raise RefusedRequest(f"{title} has no known 'datatype'")
    elements = _elements(tensor.get("shape"), title)
    if "data" in tensor:
        values = _values(tensor["data"], title)
        if len(values) != elements:
            raise RefusedRequest(f"{title} has {len(values)} values, its shape needs {elements}")
        _check_values(values, datatype, title)
        return
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None and datatype in _WIDTHS and size != elements * _WIDTHS[datatype]:
        raise RefusedRequest(f"{title} has {_shown(str(size))} bytes, its shape needs {elements * _WIDTHS[datatype]}")


def _elements(shape: Any, title: str) -> int:
    """Product of a shape. Raises RefusedRequest if there is none, or a negative or absurd dimension."""
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size <= _LARGEST_DIMENSION for size in shape):
        raise RefusedRequest(f"{title} has no 'shape' of numbers from 0 to {_LARGEST_DIMENSION}")
    elements = math.prod(shape[:_MOST_LEVELS])
    if len(shape) > _MOST_LEVELS or elements > _LARGEST_DIMENSION:
        raise RefusedRequest(f"{title} has a shape of more than {_LARGEST_DIMENSION} values")
    return elements


def _values(data: Any, title: str) -> list[Any]:
    """The values of a tensor without the lists around them. Every step runs in the interpreter's C code: a request may
    have millions of values."""
    values = data
    for _ in range(_MOST_LEVELS):
        if not isinstance(values, list):
            break
        kinds = set(map(type, values))
        if list not in kinds:
            return values
        if kinds != {list}:
            break
        values = list(chain.from_iterable(values))
    raise RefusedRequest(f"{title} has no 'data' in lists of one depth, at most {_MOST_LEVELS}")


def _check_values(values: list[Any], datatype: str, title: str) -> None:
    kinds = set(map(type, values))
    if datatype in ("BOOL", _NO_BYTES):
        _require_kinds(kinds, {bool} if datatype == "BOOL" else {str}, datatype, title)
        return
    if datatype in _LARGEST_FLOATS:
        _require_kinds(kinds, {int, float}, datatype, title)
        largest: float = _LARGEST_FLOATS[datatype]
        least = -largest
    else:
        _require_kinds(kinds, {int}, datatype, title)
        signed = not datatype.startswith("U")
        bits = 8 * _WIDTHS[datatype] - signed
        least, largest = -(2**bits) if signed else 0, 2**bits - 1
    for value in (min(values, default=0), max(values, default=0)):
        if not least <= value <= largest:
            raise RefusedRequest(f"{title} has the value {_shown(str(value))}, which does not fit {datatype}")


def _require_kinds(kinds: Iterable[type], allowed: set[type], datatype: str, title: str) -> None:
    if not set(kinds) <= allowed:
        raise RefusedRequest(f"{title} has values that are no {datatype}")


def _shown(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
