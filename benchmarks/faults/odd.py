"""Odd requests: a right one with one thing changed that must make the server refuse it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.faults.wire import WireRequest, WireTensor, wire_request
from deployment_toolkit.core import Arrays, ModelSpec, TensorSpec

Change = Callable[[WireRequest, ModelSpec, np.random.Generator], WireRequest]

_MOST_INT64 = 2**63 - 1
_HTTP_ONLY = ("length of the JSON", "damaged JSON", "no JSON")


def kinds(protocol: str, *, proxied: bool) -> Mapping[str, Change]:
    """Changes by name, for ``grpc`` or ``http``. Those that end Triton's HTTP front end are only for a server
    behind the proxy."""
    chosen = dict(_CHANGES)
    if protocol == "grpc":
        chosen = {name: change for name, change in chosen.items() if name not in _HTTP_ONLY}
    if protocol == "http" and proxied:
        chosen |= _FOR_THE_PROXY
    return chosen


def odd_request(kind: Change, model: str, spec: ModelSpec, rows: Arrays, random: np.random.Generator) -> WireRequest:
    """A request of ``rows`` with the change."""
    return kind(wire_request(model, rows), spec, random)


def _pick(request: WireRequest, random: np.random.Generator) -> int:
    return int(random.integers(len(request.inputs)))


def _with(request: WireRequest, number: int, **changes: object) -> WireRequest:
    inputs = list(request.inputs)
    inputs[number] = replace(inputs[number], **changes)  # type: ignore[arg-type]
    return replace(request, inputs=tuple(inputs))


def _shape(request: WireRequest, random: np.random.Generator, sizes: list[int], place: int = 0) -> WireRequest:
    """One input, or all of them, with another size of a dimension and the same data."""
    size = sizes[int(random.integers(len(sizes)))]

    def changed(one: WireTensor) -> tuple[int, ...]:
        return (*one.shape[:place], size, *one.shape[place + 1 :])

    if place == 0 and random.random() < 0.5:
        return replace(request, inputs=tuple(replace(one, shape=changed(one)) for one in request.inputs))
    number = _pick(request, random)
    return _with(request, number, shape=changed(request.inputs[number]))


def _ids(beyond: Callable[[TensorSpec, np.random.Generator], int]) -> Change:
    """One id of one input out of its range."""

    def change(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
        bounded = {one.name: one for one in spec.inputs if one.value_range is not None and "int" in one.dtype}
        places = [number for number, one in enumerate(request.inputs) if one.name in bounded]
        number = places[int(random.integers(len(places)))]
        tensor = bounded[request.inputs[number].name]
        values = np.frombuffer(request.inputs[number].data, tensor.dtype).copy()
        values[random.integers(len(values))] = beyond(tensor, random)
        return _with(request, number, data=values.tobytes())

    return change


def _below(tensor: TensorSpec, random: np.random.Generator) -> int:
    low = int((tensor.value_range or (0, 0))[0])
    return max(low - int(10 ** random.uniform(0, 9)), int(np.iinfo(tensor.dtype).min))


def _above(tensor: TensorSpec, random: np.random.Generator) -> int:
    high = int((tensor.value_range or (0, 0))[1])
    return min(high + int(10 ** random.uniform(0, 9)), int(np.iinfo(tensor.dtype).max))


def _wrapped_rows(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    rows = request.inputs[0].shape[0]
    return _shape(request, random, [factor * 2**32 + rows for factor in (1, 2, 3, 2**20, 2**30)])


def _huge_rows(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    return _shape(request, random, [2**31 - 1, 2**31, 2**40, 2**62, _MOST_INT64])


def _negative(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    return _shape(request, random, [-1, -2, -(2**31), -(2**63)], place=int(random.integers(2)))


def _width(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    one = request.inputs[number]
    return _with(request, number, shape=(one.shape[0], one.shape[1] + 1), data=one.data + b"\0" * (4 * one.shape[0]))


def _rank(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    shape = request.inputs[number].shape
    shapes = [(), shape[:1], (*shape, 1, 1)]
    return _with(request, number, shape=shapes[int(random.integers(len(shapes)))])


def _short_data(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    data = request.inputs[number].data
    return _with(request, number, data=data[: int(random.integers(len(data)))])


def _long_data(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    return _with(request, number, data=request.inputs[number].data + random.bytes(int(random.integers(1, 64))))


def _datatype(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    names = ("INT64", "FP64", "UINT8", "BYTES", "INT7", "BF16")
    others = [name for name in names if name != request.inputs[number].datatype]
    return _with(request, number, datatype=others[int(random.integers(len(others)))])


def _missing(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    return replace(request, inputs=request.inputs[:number] + request.inputs[number + 1 :])


def _unknown(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    names = ["", "no such input", "\u0000", "x" * 10_000, request.inputs[number].name.upper() + "_"]
    return _with(request, number, name=names[int(random.integers(len(names)))])


def _twice(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    return replace(request, inputs=(*request.inputs, request.inputs[_pick(request, random)]))


def _other_rows(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    number = _pick(request, random)
    one = request.inputs[number]
    return _with(request, number, shape=(2 * one.shape[0], *one.shape[1:]), data=one.data * 2)


def _too_many_rows(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    factor = 10_000 // request.inputs[0].shape[0] + 1
    grown = [
        replace(one, shape=(factor * one.shape[0], *one.shape[1:]), data=one.data * factor) for one in request.inputs
    ]
    return replace(request, inputs=tuple(grown))


def _head(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
    texts = [b"{", b"[]", b"null", b'{"inputs": 1}', b'{"inputs": [1]}', b'{"inputs": [{}]}', random.bytes(100)]
    return replace(request, head=texts[int(random.integers(len(texts)))])


_CHANGES: Mapping[str, Change] = {
    "id below its range": _ids(_below),
    "id above its range": _ids(_above),
    "rows beyond 32 bits, data of the lower 32": _wrapped_rows,
    "huge number of rows": _huge_rows,
    "negative dimension": _negative,
    "other width": _width,
    "other rank": _rank,
    "too few bytes": _short_data,
    "too many bytes": _long_data,
    "other or unknown datatype": _datatype,
    "input missing": _missing,
    "unknown input": _unknown,
    "input twice": _twice,
    "inputs of unequal rows": _other_rows,
    "more rows than a batch": _too_many_rows,
    "unknown output": lambda request, spec, random: replace(request, outputs=("no such output",)),
    "unknown shared memory": lambda request, spec, random: replace(request, region="no_such_region"),
    "unknown model": lambda request, spec, random: replace(request, model="no_such_model"),
    "unknown version": lambda request, spec, random: replace(request, version="999"),
    "message cut off": lambda request, spec, random: replace(request, cut=int(random.integers(1, 40))),
    "length of the JSON": lambda request, spec, random: replace(
        request, length=["-1", "999999999", "x", "18446744073709551617", "1"][int(random.integers(5))]
    ),
    "damaged JSON": _head,
    "no JSON": lambda request, spec, random: replace(request, head=b"", length="0"),
}


def _json(text: str) -> Change:
    def change(request: WireRequest, spec: ModelSpec, random: np.random.Generator) -> WireRequest:
        first = request.inputs[0]
        filled = text.replace("NAME", first.name).replace("TYPE", first.datatype)
        return replace(request, inputs=(), head=filled.encode())

    return change


_FOR_THE_PROXY: Mapping[str, Change] = {
    "JSON with an absurd shape": _json(
        '{"inputs":[{"name":"NAME","shape":[1099511627776,1],"datatype":"TYPE","data":[1]}]}'
    ),
    "JSON with a large shape": _json('{"inputs":[{"name":"NAME","shape":[268435456,1],"datatype":"TYPE","data":[1]}]}'),
    "JSON nested deeply": _json('{"inputs":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "JSON with NaN": _json('{"inputs":[{"name":"NAME","shape":[1,1],"datatype":"TYPE","data":[NaN]}]}'),
}
