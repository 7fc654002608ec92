from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import UsageError
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main

Arguments = Callable[..., list[str]]
DYNAMIC = ["--host", "python", "--batching", "dynamic", "--max-batch-size", "64", "--preferred-batch-sizes", "16"]


def test_queue_and_warmup_are_served(
    server: tuple[TritonServer, Path],
    model: Path,
    arguments: Arguments,
    outcome: Callable[[], dict[str, Any]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    running, repository = server
    limits = ["--latency-budget-ms", "80", "--max-queue-size", "500", "--priority-levels", "3"]
    load = ["--load-model", "--server-url", running.grpc_url]
    assert main(arguments(model, repository, *DYNAMIC, *limits, *load, name="limited")) == 0
    batching = running.model_config("limited")["dynamic_batching"]
    policy = batching["default_queue_policy"]
    assert (policy["default_timeout_microseconds"], policy["max_queue_size"]) == (40_000, 500)
    assert policy["timeout_action"] == "REJECT"
    assert (batching["priority_levels"], batching["default_priority_level"]) == (3, 3)
    assert outcome()["queue_config"]["latency_budget_ms"] == 80
    assert "a request waits at most 40 ms, then it is refused" in caplog.text
    assert "before one instance: Triton may notice a request up to half a second late" in caplog.text
    # Each row of a batch of the warm-up is a request; each batch is computed twice. One request asked if it answers.
    assert running.model_statistics("limited")["success"]["count"] == 2 * (1 + 16 + 64) + 1
    assert running.model_statistics("limited")["fail"]["count"] == 0


def test_row_of_the_warmup_is_one_that_the_model_takes(
    server: tuple[TritonServer, Path], tmp_path: Path, arguments: Arguments, tiny_onnx: Callable[..., Path]
) -> None:
    """Zero is no value of this input, so its row is a file. A server also takes a model whose warm-up fails: it says
    so only in its log."""
    path = tiny_onnx(tmp_path / "model.onnx")
    proto = onnx.load(str(path))
    (entry,) = (item for item in proto.metadata_props if item.key == "model_spec")
    spec = json.loads(entry.value)
    next(item for item in spec["inputs"] if item["name"] == "item")["value_range"] = [3, 9]
    entry.value = json.dumps(spec)
    onnx.save(proto, str(path))
    running, repository = server
    log_path = running.log_path
    assert log_path is not None
    start = len(log_path.read_text())
    load = ["--load-model", "--server-url", running.http_url, "--warmup-batch-sizes", "4"]
    assert main(arguments(path, repository, *DYNAMIC, *load, name="from_three")) == 0
    config = parse_config((repository / "from_three" / "config.pbtxt").read_text())
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 4 and warmup.inputs["item"].input_data_file == "input_1"
    assert (repository / "from_three" / "warmup" / "input_1").read_bytes() == (3).to_bytes(4, "little")
    assert "item" not in "".join(line for line in log_path.read_text()[start:].splitlines() if line.startswith("E"))
    assert running.model_statistics("from_three")["success"]["count"] == 2 * 4 + 1


def test_warmup_and_queue_can_be_left_out(model: Path, tmp_path: Path, arguments: Arguments) -> None:
    def config(*options: str) -> Any:
        assert main(arguments(model, tmp_path / "repository", *options)) == 0
        return parse_config((tmp_path / "repository" / "tiny" / "config.pbtxt").read_text())

    plain = config(*DYNAMIC, "--warmup-batch-sizes", "0", "--latency-budget-ms", "80", "--queue-timeout-us", "0")
    assert not plain.model_warmup and not plain.dynamic_batching.HasField("default_queue_policy")
    large = config("--host", "native", "--batching", "dynamic", "--max-batch-size", "131072")
    assert [item.batch_size for item in large.model_warmup] == [1], "a request for each row takes memory"
    cpp = ["--host", "cpp", "--batching", "dynamic", "--max-batch-size", "64"]
    assert not config(*cpp).model_warmup, "this host computes batches of many sizes by itself"
    assert [item.batch_size for item in config(*cpp, "--warmup-batch-sizes", "8").model_warmup] == [8]
    unbatched = config("--host", "native", "--batching", "disabled", "--max-batch-size", "8")
    (warmup,) = unbatched.model_warmup
    assert warmup.batch_size == 1 and list(warmup.inputs["tags"].dims) == [1, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--batching", "static", "--latency-budget-ms", "9"],
            "a queue with limits or priorities needs batching dynamic",
        ),
        (
            [*DYNAMIC, "--max-queue-size", "9", "--max-queue-delay-us", "9"],
            "max queue delay 9 us: with a queue that has",
        ),
        ([*DYNAMIC, "--latency-budget-ms", "-1"], "--latency-budget-ms -1: use a number above 0"),
        ([*DYNAMIC, "--queue-timeout-action", "delay"], "--queue-timeout-action delay needs a queue_timeout_us"),
        ([*DYNAMIC, "--warmup-batch-sizes", "65"], r"warmup batch size 65 is outside 1 \.\. 64"),
    ],
)
def test_contradictions_are_refused(
    model: Path, tmp_path: Path, arguments: Arguments, options: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        main(arguments(model, tmp_path / "repository", *options))
