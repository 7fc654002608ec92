from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.results.performance import LATENCY_PARTS, LATENCY_STATISTICS, write_performance
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.report.queue import queue_note
from runner.report.results import read_results
from runner.workspace import create_workspace
from tests.runner.conftest import experiment

Note = Callable[..., str]


@pytest.fixture
def note(small_config: dict[str, Any], tmp_path: Path) -> Note:
    """The paragraph about an experiment of two instances whose batch of 64 rows takes 12 ms."""

    def make(batching: str = "dynamic", **parameters: Any) -> str:
        configurations = [experiment(**{"number_of_model_instances": 2, **parameters})]
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(small_config | {"batching": batching, "configurations": configurations}))
        made = Experiment.create(load_config(path), 1, create_workspace(tmp_path / "workspace"))
        times_us = dict.fromkeys((*LATENCY_PARTS, *LATENCY_STATISTICS), 12000.0)
        rows = [
            {"Batch": batch, "Concurrency": 1, "Inferences/Second": 1.0, "Settled": True, **times_us}
            for batch in (1, 64)
        ]
        write_performance(made.folders.results / "triton_performance_offline.csv", rows)
        (result,) = read_results(made, [])
        return "".join(queue_note(result))

    return make


def test_limits_and_the_latest_answer_are_told(note: Note) -> None:
    told = note(latency_budget_ms=80)
    assert "waits at most 40 ms, then it is refused (half of `latency_budget_ms`, 80)" in told
    assert "A batch of 64 takes 12.0 ms (p99), so the latest answers take about 64 ms" in told
    assert told.endswith("within the budget.\n")
    assert "`number_of_model_instances: 2` helps" in note(latency_budget_ms=80, number_of_model_instances=1)
    assert "64 ms at the server, within" not in note(latency_budget_ms=40)
    assert "**over the budget**" in note(latency_budget_ms=40)
    own = note(latency_budget_ms=80, queue_timeout_us=9000, max_queue_size=7)
    assert "at most 7 requests wait" in own and "at most 9 ms" in own and "half of" not in own


def test_queue_that_refuses_nothing_is_told_with_the_remedy(note: Note) -> None:
    assert note().startswith("Queue: no limit. ") and "`latency_budget_ms` makes the server refuse" in note()
    assert note(priority_levels=2).startswith("Queue: 2 priorities, 2 without one. ")
    assert note(batching="static") == ""
