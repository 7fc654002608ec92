"""Tensors of the Python backend on the real server."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from deployment_toolkit.core import Arrays
from deployment_toolkit.deploying.model_repository import add_package
from deployment_toolkit.deploying.python_package import PythonPackage
from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask
from tests.deployment_toolkit.python_backend.echo_spec import NUMBERS, SPEC

STRINGS = np.array([b"", "señal".encode(), b"a\0b", b"\xff", b"one much longer than the others " * 40], object)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("echo")
    for name in ("echo", "hardened", "late"):
        package = PythonPackage(name, "tests.deployment_toolkit.python_backend.served_echo", SPEC, {}, 64).package
        add_package(folder / "repository", package)
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        running.load_model("echo", timeout_s=60)
        running.load_model("hardened", timeout_s=60)
        yield running


def inputs(rows: int, width: int, seed: int) -> Arrays:
    random = np.random.default_rng(seed)
    numbers = {dtype: (random.random((rows, width)) * 100 - 20).astype(np.int8).astype(dtype) for dtype in NUMBERS}
    return {**numbers, "text": random.choice(STRINGS, (rows, max(width, 1)))}


@pytest.mark.parametrize("model", ["echo", "hardened"])
def test_every_dtype_passes_as_it_is(model: str, server: TritonServer) -> None:
    asked = [inputs(rows, width, rows) for rows, width in ((1, 1), (1, 3), (5, 7), (64, 29), (2, 0), (1, 1))]
    for x in asked:
        (answer,) = ask(server, model, [x])
        assert isinstance(answer, dict), answer
        for dtype in NUMBERS:
            same = answer[f"same_{dtype}"]
            assert same.dtype == dtype
            np.testing.assert_array_equal(same, x[dtype])
        assert answer["aligned"].all(), "engines may read such memory with instructions that fail"
        expected = [[zlib.crc32(string) for string in row] for row in x["text"]]
        np.testing.assert_array_equal(answer["crc32"], np.array(expected))


def test_arrays_with_gaps_and_read_only_ones_arrive_whole(server: TritonServer) -> None:
    (answer,) = ask(server, "echo", [inputs(3, 2, 0)])
    assert answer["gapped"].tolist() == [[1, 2], [5, 6], [9, 10]]  # type: ignore[index]
    assert answer["constant"].tolist() == [[7, 7]] * 3  # type: ignore[index]


def test_memory_of_a_request_lives_as_long_as_its_arrays(server: TritonServer) -> None:
    for seed in range(20):
        (answer,) = ask(server, "echo", [inputs(16, 8, seed)])
        assert answer["kept"].all()  # type: ignore[index]


def test_backend_that_changes_numbers_is_refused(server: TritonServer) -> None:
    with pytest.raises(ServerError, match=r"changes bool numbers on their way with NumPy [\d.]+: install the packages"):
        server.load_model("late", timeout_s=60)


def test_nothing_is_complained_about_in_the_log(server: TritonServer) -> None:
    ask(server, "echo", [inputs(1, 1, 0)])
    assert server.log_path is not None
    log = server.log_path.read_text()
    assert "PyCapsule" not in log and "Traceback" not in log
