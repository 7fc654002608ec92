"""Shapes that a server of this project refuses before a model sees them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask
from tests.raw_request import answer_of

ROW = {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}


@pytest.mark.parametrize("rows", [-1, 2**31, 2**32 + 1, 2**61, 2**62 + 1, 2**63 - 1])
def test_number_of_rows_that_triton_would_misread_is_refused(adder_server: TritonServer, rows: int) -> None:
    told = answer_of(adder_server, "adder", ROW, rows, "grpc")
    assert told == "input x1 has an impossible shape: each dimension and their product must be from 0 to 2147483647"


@pytest.mark.parametrize("shape", [[1099511627776, 1], [65536, 32768], [2**31, 2**31, 4, 0], [2**40, 2**40]])
def test_impossible_shape_in_json_does_not_end_the_server(adder_server: TritonServer, shape: list[int]) -> None:
    """Triton's front end would make room for so many values before it counts those that came."""
    body = {"inputs": [{"name": "x1", "datatype": "FP32", "shape": shape, "data": [1]}]}
    request = urllib.request.Request(
        f"{adder_server.http_url}/v2/models/adder/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request, timeout=60)
    assert raised.value.code == 400 and b"input x1 has an impossible shape" in raised.value.read()
    assert isinstance(ask(adder_server, "adder", [ROW])[0], dict)


def test_possible_shapes_pass(adder_server: TritonServer) -> None:
    assert answer_of(adder_server, "adder", ROW, 1, "grpc") == answer_of(adder_server, "adder", ROW, 1, "http") == ""
    assert "impossible" not in answer_of(adder_server, "adder", ROW, 2, "grpc")
    nothing = {name: array[:0] for name, array in ROW.items()}
    assert "impossible" not in answer_of(adder_server, "adder", nothing, 0, "grpc")
