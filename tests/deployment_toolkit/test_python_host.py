from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import Array, Arrays, Batching, DeviceKind, Format, Host, ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import ServerError, UsageError
from deployment_toolkit.library.registry import loader
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask, executions
from tests.raw_request import LIKE_NONE, answer_of, unchecked_shapes

Write = Callable[..., Path]
JOINED_ROWS = 8


@pytest.fixture(scope="module")
def server(tiny_onnx: Write, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """Server with six models: ``joined`` collects 8 rows before it runs; ``pair`` has two instances, and accepts
    numbers that are not finite; ``silent`` does not say how many items it has; ``lying`` says more than it has;
    ``broken`` is no ONNX file, and has no list of checksums; ``changed`` is loaded by a test; ``alone`` is not batched.
    The server lets impossible shapes pass."""
    folder = tmp_path_factory.mktemp("host")
    names = ("joined", "pair", "silent", "broken", "changed", "alone")
    sources = {name: tiny_onnx(folder / f"{name}.onnx") for name in names}
    sources["lying"] = tiny_onnx(folder / "lying.onnx", declared_items=20)
    repository = folder / "repository"
    collecting = {"preferred_batch_sizes": (JOINED_ROWS,), "max_queue_delay_us": 20_000_000}
    options: dict[str, dict[str, Any]] = {
        "joined": {"max_batch_size": JOINED_ROWS, **collecting, "backend_parameters": {"threads": "3"}},
        "silent": {"max_batch_size": JOINED_ROWS, **collecting},
        "lying": {"max_batch_size": JOINED_ROWS},
        "pair": {
            "max_batch_size": 512,
            "engine_count_per_device": {DeviceKind.CPU: 2},
            "backend_parameters": {"non_finite": "accepted"},
        },
        "broken": {"max_batch_size": 1},
        "alone": {"batching": Batching.DISABLED},
        "changed": {"max_batch_size": 1},
    }
    for name, source in sources.items():
        spec = loader(Format.ONNX)().read_spec(source)
        if name == "silent":
            spec = ModelSpec(tuple(replace(tensor, value_range=None) for tensor in spec.inputs), spec.outputs)
        batching = {"batching": Batching.DYNAMIC} | options[name]
        deployment = Deployment(name, spec, Format.ONNX, host=Host.PYTHON, **batching)
        add_model(repository, deployment, source)
    (repository / "broken" / "1" / "SHA256SUMS").unlink()
    (repository / "broken" / "1" / "model.onnx").write_bytes(b"this is no ONNX")
    with unchecked_shapes(folder), local_server(repository, log_path=folder / "server.log") as running:
        for name in ("joined", "pair", "silent", "alone"):
            running.load_model(name, timeout_s=60)
        yield running


def rows(count: int, seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "amount": random.random((count, 1), dtype=np.float32),
        "item": random.integers(0, 10, (count, 1), dtype=np.int32),
        "tags": random.integers(-1, 5, (count, 3), dtype=np.int32),
    }


def score(x: Arrays) -> Array:
    expected: Array = x["amount"] + 10 * x["item"] + x["tags"].sum(axis=1, keepdims=True)
    return expected


def test_bad_id_fails_its_request_and_not_the_rest_of_the_batch(server: TritonServer) -> None:
    batches = [rows(1, 0), rows(3, 1), rows(2, 2), rows(1, 3), rows(1, 4)]
    batches[1]["item"][2] = 10
    batches[3]["tags"][0, 1] = -2
    before = executions(server, "joined", 0)
    answers = ask(server, "joined", batches)
    assert executions(server, "joined", before + 1) == before + 1, "they were not joined: the test shows nothing"
    for index in (0, 2, 4):
        np.testing.assert_allclose(answers[index]["score"], score(batches[index]), rtol=1e-6)  # type: ignore[index]
    assert "input item holds id 10, outside 0 .. 9 (cardinality 10)" in str(answers[1])
    assert "input tags holds id -2, outside -1 .. 4 (cardinality 5)" in str(answers[3])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_impossible_number_of_rows_fails_its_request_and_not_the_rest_of_the_batch(
    server: TritonServer, scheme: str
) -> None:
    batches = [rows(1, seed) for seed in range(JOINED_ROWS - 1)]
    before = executions(server, "joined", 0)
    with ThreadPoolExecutor(1) as pool:
        bad = pool.submit(answer_of, server, "joined", rows(1), LIKE_NONE, scheme)
        wait([bad], timeout=0.5)
        answers = ask(server, "joined", batches)
        assert "input amount is [1], the model takes ['rows', 1]" in bad.result()
    assert executions(server, "joined", before + 1) == before + 1, "they were not joined: the test shows nothing"
    for x, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer["score"], score(x), rtol=1e-6)  # type: ignore[index]


def test_model_without_batching_gets_requests_unchanged(server: TritonServer) -> None:
    x = rows(3)
    (answer,) = ask(server, "alone", [x])
    np.testing.assert_allclose(answer["score"], score(x), rtol=1e-6)  # type: ignore[index]
    x["item"] = x["item"][:2]
    (answer,) = ask(server, "alone", [x])
    assert "the inputs of a request have [2, 3] rows: they must agree" in str(answer)


def test_batch_of_only_bad_ids_is_answered(server: TritonServer) -> None:
    batches = [rows(4, 0), rows(4, 1)]
    for x in batches:
        x["item"][:] = 999
    assert [str(answer).count("holds id 999") for answer in ask(server, "joined", batches)] == [1, 1]


def test_number_that_is_not_finite_fails_its_request_only(server: TritonServer) -> None:
    batches = [rows(1, 0), rows(3, 1), rows(2, 2), rows(1, 3), rows(1, 4)]
    batches[1]["amount"][2] = np.nan
    batches[2]["amount"][0] = -np.inf
    batches[3]["amount"][0] = np.finfo(np.float32).max / 10
    before = executions(server, "joined", 0)
    answers = ask(server, "joined", batches)
    assert executions(server, "joined", before + 1) == before + 1, "they were not joined: the test shows nothing"
    for index in (0, 3, 4):
        np.testing.assert_allclose(answers[index]["score"], score(batches[index]), rtol=1e-6)  # type: ignore[index]
    assert "input amount holds NaN, a number must be finite" in str(answers[1])
    assert "input amount holds -infinity, a number must be finite" in str(answers[2])
    many = rows(JOINED_ROWS)
    many["amount"][5] = np.inf
    assert "input amount holds infinity" in str(*ask(server, "joined", [many]))
    (accepted,) = ask(server, "pair", [batches[1]])
    assert np.isnan(accepted["score"]).ravel().tolist() == [False, False, True]  # type: ignore[index]


def test_failed_batch_is_reported_to_each_request(
    server: TritonServer,
) -> None:
    batches = [rows(4, 0), rows(4, 1)]
    batches[0]["item"][0] = 15  # outside the table
    answers = ask(server, "silent", batches)
    assert ["idx=15 must be within" in str(answer) for answer in answers] == [True, True]
    batches[0]["item"][0] = 5
    for x, answer in zip(batches, ask(server, "silent", batches), strict=True):
        np.testing.assert_allclose(answer["score"], score(x), rtol=1e-6)  # type: ignore[index]


def test_concurrent_requests_on_two_instances_get_their_rows(server: TritonServer) -> None:
    batches = [rows(count, count) for count in (1, 2, 10, 11, 100, 512, 7, 1, 64, 333)]
    for x, answer in zip(batches, ask(server, "pair", batches), strict=True):
        np.testing.assert_allclose(answer["score"], score(x), rtol=1e-6)  # type: ignore[index]


def test_answers_in_strings_are_refused_by_both_hosts() -> None:
    spec = ModelSpec((TensorSpec("item", "int32", (1,)),), (TensorSpec("name", "object", (1,)),))
    for host in (Host.PYTHON, Host.CPP):
        with pytest.raises(UsageError, match="output name holds strings, which neither host can answer with: it needs"):
            Deployment("model", spec, Format.ONNX, host=host)


def test_threads_are_those_configured_or_a_share_of_the_cores(server: TritonServer) -> None:
    assert server.log_path is not None
    share = max(1, usable_cores() // 2)
    log = server.log_path.read_text()
    assert "joined_0_0: model.onnx with 3 threads" in log
    assert f"pair_0_1: model.onnx with {share} threads" in log


def test_unreadable_model_fails_to_load_with_the_runtime_error(server: TritonServer) -> None:
    with pytest.raises(ServerError, match=r"broken.*can't be loaded by onnxruntime"):
        server.load_model("broken", timeout_s=60)


def test_model_whose_files_have_changed_is_not_loaded(server: TritonServer) -> None:
    assert server.log_path is not None
    file = server.log_path.parent / "repository" / "changed" / "1" / "model.onnx"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ServerError, match=r"changed/1/model.onnx is not the file that was deployed: its SHA-256 is"):
        server.load_model("changed", timeout_s=60)
    file.write_bytes(content)
    server.load_model("changed", timeout_s=60)


def test_model_that_fails_within_its_value_ranges_is_not_loaded(server: TritonServer) -> None:
    with pytest.raises(
        ServerError, match=r"a request of \d rows, tried before the model is ready, fails: .*idx=1\d must be"
    ):
        server.load_model("lying", timeout_s=60)
