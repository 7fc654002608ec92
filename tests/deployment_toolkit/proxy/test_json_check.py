"""The JSON of requests: what reaches the server, and what is refused."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from deployment_toolkit.proxy.json_check import RefusedRequest, check_request

MOST_S = 20  # on a busy machine; else 2


def _request(datatype: str = "FP32", data: Any = None, shape: Any = (1, 1), **tensor: Any) -> bytes:
    values = {} if data is None else {"data": data}
    request = {"inputs": [{"name": "x", "datatype": datatype, "shape": shape, **values, **tensor}]}
    return json.dumps(request).encode()


@pytest.mark.parametrize(
    "text",
    [
        _request(data=[1]),
        _request(data=[[1.5], [-3e38]], shape=[2, 1]),
        _request(data=[[[1, 2], [3, 4]]], shape=[1, 2, 2]),
        _request("INT32", [-(2**31), 2**31 - 1], [2, 1]),
        _request("INT8", [-128, 127], [2]),
        _request("UINT8", [0, 255], [2]),
        _request("UINT64", [2**64 - 1]),
        _request("INT64", [-(2**63)]),
        _request("BOOL", [True, False], [2]),
        _request("BYTES", ["{", "NaN"], [2, 1]),
        _request("FP64", [1e308]),
        _request(data=[], shape=[0, 1]),
        _request("INT32", shape=[3, 2], parameters={"binary_data_size": 24}),
        _request("BYTES", shape=[3], parameters={"binary_data_size": 24}),
        _request("FP16", shape=[3], parameters={"shared_memory_region": "a", "shared_memory_byte_size": 24}),
    ],
)
def test_good_requests_pass(text: bytes) -> None:
    check_request(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_request(data=[1], shape=[1099511627776, 1]), "no 'shape' of numbers from 0 to 2147483647"),
        (_request(data=[1], shape=[2**28, 1]), "has 1 values, its shape needs 268435456"),
        (_request(data=[1], shape=[2**16, 2**16]), "has a shape of more than 2147483647 values"),
        (_request(data=[1], shape=[1] * 33), "has a shape of more than"),
        (_request(data=[1], shape=[-1, -1]), "no 'shape'"),
        (_request(data=[1], shape=[1.0, 1]), "no 'shape'"),
        (_request(data=[1], shape=[True, 1]), "no 'shape'"),
        (_request(data=[1, 2]), "has 2 values, its shape needs 1"),
        (_request("INT32", [4294967297]), "has the value 4294967297, which does not fit INT32"),
        (_request("INT32", [-(2**31) - 1]), "does not fit INT32"),
        (_request("INT8", [128]), "does not fit INT8"),
        (_request("INT16", [-32769]), "does not fit INT16"),
        (_request("UINT16", [-1]), "does not fit UINT16"),
        (_request("UINT64", [2**64]), "does not fit UINT64"),
        (_request("INT64", [2**63]), "does not fit INT64"),
        (_request("FP32", [1e39]), "does not fit FP32"),
        (_request("INT32", [1.0]), "values that are no INT32"),
        (_request("INT32", [True]), "values that are no INT32"),
        (_request("FP32", ["1"]), "values that are no FP32"),
        (_request("BOOL", [1]), "values that are no BOOL"),
        (_request("BYTES", [1]), "values that are no BYTES"),
        (_request("FP32", [[1], 2], [2, 1]), "no 'data' in lists of one depth"),
        (_request("FP32", {"a": 1}), "no 'data' in lists of one depth"),
        (_request("FP8", [1]), "no known 'datatype'"),
        (_request(data=[float("nan")]), "the number NaN"),
        (_request(data=[float("-inf")]), "the number -Infinity"),
        (_request(data=[0]).replace(b"[0]", b"[1e999]"), "does not fit FP32"),
        (_request(data=[0]).replace(b'"data"', b'"data": [7], "data"'), "repeated name"),
        (_request(data=[0]).replace(b'"data"', b'"data": [7], "d\\u0061ta"'), "repeated name"),
        (_request("INT32", shape=[2**30, 4], parameters={"binary_data_size": 0}), "a shape of more than"),
        (_request("INT32", shape=[3, 2], parameters={"binary_data_size": 4}), "has 4 bytes, its shape needs 24"),
        (_request(data=[0]).decode().encode("utf-16"), "can't be read"),
        (_request("INT32", [0]).replace(b"[0]", b"[" + b"9" * 5000 + b"]"), "can't be read"),
        (b'{"inputs": ' + b"[" * 200_000, "nested too deeply"),
        (b'{"inputs": ' + b'[{"a": ' * 100_000, "nested too deeply"),
        (_request(data=[0]).replace(b"[0]", b"[" * 40 + b"0" + b"]" * 40), "at most 32"),
        (b"", "can't be read"),
        (b"[]", "no list of 'inputs'"),
        (b'{"inputs": {"name": "x"}}', "no list of 'inputs'"),
    ],
)
def test_harmful_requests_are_refused(text: bytes, message: str) -> None:
    with pytest.raises(RefusedRequest, match=message) as told:
        check_request(text)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("unit", [b"[],", b"{},", b"0,", b"1.5,", b'"",', b"[[[[]]]],", b'{"a":1},'])
def test_the_largest_json_is_read_in_bounded_time(unit: bytes) -> None:
    data = b"[" + unit * (8 * 2**20 // len(unit)) + b"0]"
    started = time.monotonic()
    with pytest.raises(RefusedRequest):
        check_request(_request(data=[0]).replace(b"[0]", data))
    assert time.monotonic() - started < MOST_S
