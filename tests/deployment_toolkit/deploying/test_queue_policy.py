from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput

from deployment_toolkit.deploying.queue_policy import NO_LIMIT, QueuePolicy, TimeoutAction
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.located_yaml import MOST
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.overload import CAPACITY, INSTANCES, MAX_BATCH_SIZE, add_slow_model, overload

BUDGET_MS = 500.0
LATE_S = 1.5  # thrice the budget
LOAD_S = 1.5
MOST_WAITING = 32
RECOVERY_S = 3.0
POLICIES = {
    "unlimited": NO_LIMIT,
    "timeout": QueuePolicy.of(latency_budget_ms=BUDGET_MS, timeout_us=None),
    "sized": QueuePolicy(max_queue_size=MOST_WAITING),
    "priorities": QueuePolicy(priority_levels=2),
    "delay": QueuePolicy(timeout_us=250_000, timeout_action=TimeoutAction.DELAY),
}


@pytest.fixture(scope="module")
def slow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server with the model of served_slow.py behind a queue with each policy."""
    folder = tmp_path_factory.mktemp("slow")
    for name, policy in POLICIES.items():
        add_slow_model(folder / "repository", name, policy)
    with local_server(folder / "repository", log_path=folder / "server.log") as server:
        for name in POLICIES:
            server.load_model(name, timeout_s=60)
        yield server


@pytest.mark.parametrize("model", ["timeout", "sized"])
def test_limited_queue_refuses_what_would_be_late_and_recovers(slow_server: TritonServer, model: str) -> None:
    outcome = overload(slow_server, model, rate=4 * CAPACITY, seconds=LOAD_S)
    assert len(outcome.answered_s) > 50 and len(outcome.refused_s) > 100, "of 1200"
    slowed = CAPACITY * LOAD_S / len(outcome.answered_s)  # by other work on the cores
    queued_s = (MOST_WAITING + 2 * INSTANCES * MAX_BATCH_SIZE) / CAPACITY * max(1.0, slowed)
    assert statistics.median(outcome.answered_s) <= max(1.2 * BUDGET_MS / 1000, queued_s)
    assert max(outcome.answered_s) <= LATE_S * max(1.0, slowed)
    assert outcome.after_s < RECOVERY_S
    if model == "sized":
        assert statistics.median(outcome.refused_s) < 0.1, "a full queue refuses at once"


def test_queue_without_limits_answers_all_too_late(slow_server: TritonServer) -> None:
    outcome = overload(slow_server, "unlimited", rate=4 * CAPACITY, seconds=1.5)
    assert outcome.refused_s == []
    assert max(outcome.answered_s) > LATE_S
    assert outcome.after_s > LATE_S


def test_delayed_requests_are_late_and_not_refused(slow_server: TritonServer) -> None:
    outcome = overload(slow_server, "delay", rate=4 * CAPACITY, seconds=1.0)
    assert outcome.refused_s == [] and max(outcome.answered_s) > POLICIES["delay"].timeout_us / 1e6


def test_requests_of_the_first_priority_do_not_wait_for_the_others(slow_server: TritonServer) -> None:
    with ThreadPoolExecutor(1) as pool, closing(InferenceServerClient(slow_server.grpc_url[7:])) as client:
        load = pool.submit(overload, slow_server, "priorities", rate=4 * CAPACITY, seconds=1.5)
        first_s: list[float] = []
        while not load.done() and len(first_s) < 40:
            tensor = InferInput("x", (1, 1), "FP32")
            started = time.monotonic()
            client.infer("priorities", [tensor.set_data_from_numpy(np.ones((1, 1), np.float32))], priority=1)
            first_s.append(time.monotonic() - started)
    assert statistics.median(first_s) < 0.5
    assert max(load.result().answered_s) > LATE_S


def test_longest_wait_follows_from_the_latency_budget() -> None:
    assert QueuePolicy.of(latency_budget_ms=100, timeout_us=None).timeout_us == 50_000
    assert QueuePolicy.of(latency_budget_ms=100, timeout_us=7).timeout_us == 7
    assert not QueuePolicy.of(latency_budget_ms=100, timeout_us=0).is_set
    assert not QueuePolicy.of(latency_budget_ms=None, timeout_us=None).is_set


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_queue_size": -1}, f"max_queue_size must be from 0 to {MOST}, not -1"),
        ({"timeout_us": MOST + 1}, "queue_timeout_us must be from 0"),
        ({"timeout_action": TimeoutAction.DELAY}, "queue_timeout_action delay needs a queue_timeout_us"),
        ({"default_priority_level": 1}, "default_priority_level 1 needs priority_levels"),
        ({"priority_levels": 2, "default_priority_level": 3}, r"default_priority_level 3 is outside 1 \.\. 2"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        QueuePolicy(**limits)  # type: ignore[arg-type]
    for budget_ms in (0.0, -3.0, 1e12, float("nan")):
        with pytest.raises(UsageError, match="latency_budget_ms"):
            QueuePolicy.of(latency_budget_ms=budget_ms, timeout_us=None)
