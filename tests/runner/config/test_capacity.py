"""The key ``capacity`` of a configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.mapping import to_plain
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.pipeline import stages_of
from runner.workspace import create_workspace
from tests.runner.conftest import ENSEMBLE, STAGES, experiment

Plain = dict[str, Any]


def made(plain: Plain, folder: Path) -> Experiment:
    """The first experiment of a configuration."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return Experiment.create(load_config(path), 1, create_workspace(folder / "workspace"))


def test_capacity_is_a_stage_of_each_model_only_if_it_is_asked_for(small_config: Plain, tmp_path: Path) -> None:
    assert [stage.name for stage in stages_of(made(small_config, tmp_path))] == STAGES
    asked = small_config | {"capacity": {}}
    assert [stage.name for stage in stages_of(made(asked, tmp_path))] == [*STAGES, "performance capacity"]
    names = [stage.name for stage in stages_of(made(asked | {"ensemble_model_name": ENSEMBLE}, tmp_path))]
    assert names[len(STAGES)] == "performance capacity" and names[-1] == "ensemble performance capacity"


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ({"configurations": [experiment()]}, [1, 32]),
        ({"configurations": [experiment(max_batch_size=8)]}, [1, 8]),
        ({"batching": "disabled"}, [1]),
        ({"capacity": {"rows": [64, 2]}}, [2, 64]),
    ],
)
def test_rows_of_requests_fit_the_largest_batch(
    small_config: Plain, tmp_path: Path, keys: Plain, rows: list[int]
) -> None:
    found = made(small_config | {"capacity": {}} | keys, tmp_path)
    assert found.capacity is not None and found.capacity.rows_for(found.parameters, found.batching) == rows
    assert (found.capacity.latency_budgets_ms, found.capacity.sizing_budget_ms) == ([10, 20, 50], 20)


@pytest.mark.parametrize(
    ("capacity", "message"),
    [
        ({"latency_budget_ms": [3]}, "capacity: unknown key latency_budget_ms, did you mean latency_budgets_ms?"),
        ({"latency_budgets_ms": []}, "capacity: latency_budgets_ms needs numbers above 0, not []"),
        ({"latency_budgets_ms": [5, 0]}, "latency_budgets_ms needs numbers above 0, not [5.0, 0.0]"),
        ({"latency_budgets_ms": [5, 20, 5]}, "latency_budgets_ms holds 5 twice"),
        ({"rows": [0]}, "rows needs numbers above 0, not [0]"),
        ({"rows": [1, 1.5]}, "capacity: rows[2]: expected int, found 1.5"),
        ({"seconds": 0}, "capacity: seconds must be above 0, not 0"),
        ({"run_seconds": -1}, "run_seconds must be above 0, not -1"),
        ({"run_seconds": 0.9}, "run_seconds 0.9 is too short for a latency budget of 50 ms: a queue that grows"),
        ({"sizing": {"load": 60}}, "sizing: load is a share of a server's capacity, at most 1, not 60"),
        ({"sizing": {"load": 0}}, "load must be above 0, not 0"),
        ({"sizing": {"inferences_per_second": -1}}, "inferences_per_second must be above 0, not -1"),
        ({"sizing": {"rows": 8}}, "capacity: sizing: rows 8 is not measured: add it to rows"),
        (
            {"sizing": {"latency_budget_ms": 5}},
            "sizing: latency_budget_ms 5 is not measured: add it to latency_budgets",
        ),
        ({"rows": [1, 65]}, "configuration 1: capacity: rows 65 is above max_batch_size 64"),
    ],
)
def test_wrong_capacity_is_named_with_its_place(
    small_config: Plain, tmp_path: Path, capacity: Plain, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        made(small_config | {"capacity": capacity}, tmp_path)
    assert message in str(caught.value)
    assert re.match(rf"{re.escape(str(tmp_path))}/config.yaml:\d+: ", str(caught.value))


def test_rows_without_batching_are_refused(small_config: Plain, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rows 2, but with batching disabled a request has 1 row"):
        made(small_config | {"capacity": {"rows": [2]}, "batching": "disabled"}, tmp_path)


def test_capacity_is_unchanged_after_writing_and_loading(small_config: Plain, tmp_path: Path) -> None:
    given = {"rows": [4], "latency_budgets_ms": [7.5], "seconds": 5, "sizing": {"rows": 4, "load": 0.5}}
    first = made(small_config | {"capacity": given}, tmp_path).capacity
    assert first is not None and first.sizing_budget_ms == 7.5
    assert made(small_config | {"capacity": to_plain(first)}, tmp_path).capacity == first
