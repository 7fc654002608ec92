from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import Batch
from deployment_toolkit.errors import InferenceError, InputError, ServerError, UsageError
from deployment_toolkit.triton_inference_runner.base import TritonSession, open_session
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

SIZES = (1, 64, 7, 33, 2, 64, 64, 5, 1, 18, 40, 3)
WAYS = pytest.mark.parametrize(
    ("scheme", "synchronous"), [("grpc", True), ("grpc", False), ("http", True), ("http", False)]
)


def _batches(*, delays_s: dict[int, float] | None = None, marked: int | None = None) -> Iterator[Batch]:
    """Uneven batches; in some of them the first row makes the model wait or refuse."""
    random = np.random.default_rng(0)
    for number, size in enumerate(SIZES, start=1):
        x1 = random.random((size, 1), dtype=np.float32)
        x2 = random.integers(0, 600, (size, 3), dtype=np.int32)
        if number in (delays_s or {}):
            x1[0] = 1000 + (delays_s or {})[number]
        if number == marked:
            x2[0, 1] = 666
        yield Batch(ids=random.integers(0, 100, size), x={"x1": x1, "x2": x2})


def _session(
    server: TritonServer, scheme: str, synchronous: bool, *, window: int = 4, wait_s: float = 30.0
) -> TritonSession:
    return open_session(
        server.grpc_url if scheme == "grpc" else server.http_url,
        "adder",
        "1",
        synchronous=synchronous,
        max_unresponded_requests=window,
        response_wait_time_s=wait_s,
    )


def _assert_all_right(session: TritonSession) -> None:
    expected = list(_batches())
    predictions = list(session.predict(_batches()))
    assert len(predictions) == len(expected)
    for prediction, batch in zip(predictions, expected, strict=True):
        np.testing.assert_array_equal(prediction.batch.ids, batch.ids)
        np.testing.assert_allclose(
            prediction.y_pred["y"], batch.x["x1"] + batch.x["x2"].sum(axis=1, keepdims=True), rtol=1e-6
        )


@WAYS
def test_answers_keep_the_order_of_the_batches(adder_server: TritonServer, scheme: str, synchronous: bool) -> None:
    with _session(adder_server, scheme, synchronous) as session:
        assert session.spec.value_ranges == {"x2": (-1, 999)}
        _assert_all_right(session)
        # One of the two instances keeps batch 2 while the other answers those after it.
        predictions = list(session.predict(_batches(delays_s={2: 0.3})))
    assert [len(prediction.batch) for prediction in predictions] == list(SIZES)
    assert [len(prediction.y_pred["y"]) for prediction in predictions] == list(SIZES)


@WAYS
def test_window_limits_the_batches_in_memory(adder_server: TritonServer, scheme: str, synchronous: bool) -> None:
    drawn = 0

    def counted() -> Iterator[Batch]:
        nonlocal drawn
        for batch in _batches():
            drawn += 1
            yield batch

    with _session(adder_server, scheme, synchronous, window=3) as session:
        for answered, _ in enumerate(session.predict(counted())):
            assert drawn <= answered + (1 if synchronous else 3)
    assert drawn == len(SIZES)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_window_allows_several_requests_at_once(adder_server: TritonServer, scheme: str) -> None:
    delays_s = dict.fromkeys(range(1, 9), 0.2)
    seconds = {}
    for synchronous in (True, False):
        with _session(adder_server, scheme, synchronous) as session:
            started = time.monotonic()
            assert len(list(session.predict(_batches(delays_s=delays_s)))) == len(SIZES)
            seconds[synchronous] = time.monotonic() - started
    assert seconds[False] < 0.75 * seconds[True]  # two instances


@WAYS
def test_error_of_a_batch_is_raised_and_the_session_continues(
    adder_server: TritonServer, scheme: str, synchronous: bool
) -> None:
    answered = 0
    with _session(adder_server, scheme, synchronous) as session:
        with pytest.raises(InferenceError, match="batch 6 of 64 rows: the server answered: id 666 is marked"):
            for _ in session.predict(_batches(marked=6)):
                answered += 1
        assert answered == 5
        _assert_all_right(session)


@WAYS
def test_late_answer_is_an_error_and_not_mixed_up(adder_server: TritonServer, scheme: str, synchronous: bool) -> None:
    with _session(adder_server, scheme, synchronous, wait_s=0.4) as session:
        started = time.monotonic()
        predictions = session.predict(_batches(delays_s={3: 1.0}))
        assert [len(prediction.batch) for prediction in itertools.islice(predictions, 2)] == [1, 64]
        with pytest.raises(
            InferenceError, match=r"batch 3 of 7 rows was not answered within 0\.4 s: .*--response-wait"
        ):
            next(predictions)
        assert time.monotonic() - started < 0.9
        _assert_all_right(session)  # the late answer is not taken for another request's


@WAYS
def test_loop_left_early_keeps_the_session_usable(adder_server: TritonServer, scheme: str, synchronous: bool) -> None:
    with _session(adder_server, scheme, synchronous) as session:
        predictions = session.predict(_batches(delays_s={3: 0.2}))
        next(iter(predictions))
        predictions.close()  # type: ignore[attr-defined]
        _assert_all_right(session)


def test_killed_server_is_reported(adder_repository: Path, tmp_path: Path) -> None:
    ways = [(scheme, synchronous) for scheme in ("grpc", "http") for synchronous in (True, False)]
    with local_server(adder_repository, log_path=tmp_path / "server.log") as server:
        server.load_model("adder", timeout_s=60)
        sessions = [_session(server, *way) for way in ways]
        loops = [session.predict(_batches(delays_s={2: 0.5})) for session in sessions]
        for loop in loops:
            assert len(next(iter(loop)).batch) == 1
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        for loop in loops:
            started = time.monotonic()
            with pytest.raises(InferenceError, match=r"batch \d+ of \d+ rows: the server is gone"):
                list(loop)
            assert time.monotonic() - started < 10
        for session in sessions:
            session.__exit__()
    for way in ways:
        with pytest.raises(ServerError, match="no server answers at"):
            _session(server, *way)


@WAYS
def test_missing_model_or_version_is_reported(adder_server: TritonServer, scheme: str, synchronous: bool) -> None:
    url = adder_server.grpc_url if scheme == "grpc" else adder_server.http_url

    def open_model(name: str, version: str) -> TritonSession:
        return open_session(
            url, name, version, synchronous=synchronous, max_unresponded_requests=4, response_wait_time_s=5
        )

    with pytest.raises(
        ServerError, match=f"no model WidenDeep in the repository of the server at {url}: it holds adder"
    ):
        open_model("WidenDeep", "1")
    with pytest.raises(ServerError, match="adder .* has no version 7 .*: ask for version 1"):
        open_model("adder", "7")
    with open_model("adder", "") as session:
        _assert_all_right(session)


def test_batches_outside_the_signature_are_refused(adder_server: TritonServer) -> None:
    good = next(_batches())
    x1, x2 = good.x["x1"], good.x["x2"]
    for x, message in (
        ({"x1": x1}, "batch 2: .*missing .*x2"),
        ({"x1": x1, "x2": x2.astype(np.int64)}, r"batch 2: input x2 is int64\[1, 3\], the model takes int32"),
        ({"x1": x1[:0], "x2": x2[:0]}, "batch 2 has 0 rows of inputs"),
    ):
        with _session(adder_server, "grpc", False) as session:
            predictions = iter(session.predict([good, Batch(good.ids, x)]))
            next(predictions)
            with pytest.raises(InputError, match=message):
                next(predictions)
    large = Batch(np.zeros(65), {"x1": np.zeros((65, 1), np.float32), "x2": np.zeros((65, 3), np.int32)})
    with (
        _session(adder_server, "grpc", False) as session,
        pytest.raises(InputError, match="batch 1 has 65 rows, the model takes at most 64: .*--max-batch-size"),
    ):
        list(session.predict([large]))


def test_window_and_wait_time_must_be_positive() -> None:
    for window, wait_s in ((0, 1.0), (1, 0.0)):
        with pytest.raises(UsageError):
            open_session(
                "localhost:1", "m", synchronous=False, max_unresponded_requests=window, response_wait_time_s=wait_s
            )
