"""Capacity and sizing in a report, from tables as a run leaves them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployment_toolkit.results.capacity import marked, read_capacity_summary, write_capacity
from runner.config.run import RunConfig, load_config
from runner.experiment import Experiment
from runner.records import StageRecord, StageState
from runner.report.capacity import capacity_pictures, capacity_section, write_capacity_summary
from runner.report.results import ExperimentResult, read_results
from runner.report.sizing import Demand, sizing_lines, sizing_section
from runner.stages.capacity import CAPACITY_SUMMARY, CAPACITY_TABLE
from runner.workspace import create_workspace
from tests.deployment_toolkit.results.test_capacity import row
from tests.runner.conftest import experiment

Results = tuple[RunConfig, list[ExperimentResult]]
FAST, SLOW = experiment(format="openvino"), experiment()
BF16, INT8 = experiment(format="openvino", precision="bf16"), experiment(format="openvino", precision="int8")


@pytest.fixture
def measured(small_config: dict[str, Any], tmp_path: Path) -> Callable[..., Results]:
    """A run whose fp32 experiments hold 200 and 300 requests of 32 rows a second within 20 ms; bf16 holds no rate, and
    int8 was not measured, since its stage failed. ``slow_client`` sends the requests of the second late."""

    def make(*, slow_client: bool = False, state: StageState = StageState.FAILED, **capacity: Any) -> Results:
        path = tmp_path / "config.yaml"
        plain = {"configurations": [SLOW, FAST, BF16, INT8], "capacity": {"latency_budgets_ms": [20]} | capacity}
        path.write_text(yaml.safe_dump(small_config | plain))
        config, workspace = load_config(path), create_workspace(tmp_path / "workspace")
        experiments = [Experiment.create(config, number, workspace) for number in config.experiment_numbers]
        missed = {"Valid": False, "p99 latency": 41_500.0}
        late = {"Late Sends": 0.5 if slow_client else 0.0}
        tables = [
            [row(1, 20, 900.0), row(32, 20, 200.0), row(32, 20, 210.0, **missed)],
            [row(1, 20, 800.0), row(32, 20, 300.0, **late), row(32, 20, 310.0, **missed)],
            [row(32, 20, 10.0, **missed)],
        ]
        for item, rows in zip(experiments, tables, strict=False):
            write_capacity(item.folders.results / CAPACITY_TABLE, marked(rows))
        ended = StageRecord("performance capacity", 4, state)
        return config, [result for item in experiments for result in read_results(item, [ended][: item.number // 4])]

    return make


def test_summary_has_the_capacity_of_each_budget_and_size(measured: Callable[..., Results]) -> None:
    _, results = measured(slow_client=True)
    name = "capacity at p99 ≤ 20 ms, {} (inferences/s)"
    assert [result.summary[name.format("32 rows")] for result in results] == ["6,400", "≥ 9,600", "none", ""]
    assert [result.summary[name.format("1 row")] for result in results] == ["≥ 900", "≥ 800", "", ""]


def test_section_shows_capacities_and_every_run(measured: Callable[..., Results], tmp_path: Path) -> None:
    _, results = measured(slow_client=True)
    first, second, _, last = ("\n".join(capacity_section(result)) for result in results)
    assert first.startswith("### Capacity\n")
    table = [[cell.strip() for cell in line.split("|")[1:5]] for line in first.splitlines() if line.startswith("|")]
    assert ["32", "20", "200", "6,400"] in table
    assert "41.50" in first and "LoadGen calls this run invalid" in first and "§" not in first
    assert "§" in second and "the client may have been the limit" in second
    assert "`experiment_1/loadgen`" in first and "The client shares the host's cores" in first
    assert last == ""
    assert "- Requests of 1 row within 20 ms: at least 900 requests/s, but the search had no time for its end." in first
    assert "at least 300 requests/s; 310 failed, but the client sent late and may have been the limit." in second
    assert "at least 200" not in first
    write_capacity_summary(results, tmp_path)
    groups = read_capacity_summary(tmp_path / CAPACITY_SUMMARY, "experiment")
    assert {name: len(rows) for name, rows in groups.items()} == {"1": 3, "2": 3, "3": 1}
    assert groups["2"] == results[1].capacity
    assert capacity_pictures(results, "a host")["capacity.png"].startswith(b"\x89PNG")
    assert capacity_pictures(results[3:], "a host") == {}


def test_servers_are_counted_for_the_best_of_each_precision(measured: Callable[..., Results]) -> None:
    config, results = measured()
    text = "\n".join(sizing_section(config.capacity, results))
    # 100,000 / (0.6 * 32 * 300) = 17.4
    assert "for 100,000 inferences/s in requests of 32 rows at p99 ≤ 20 ms, each server at 60 % of its capacity" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert lines[2:] == [
        ["fp32", "2: openvino fp32", "9,600", "4.00", "18"],
        ["bf16", "none", "-", "-", "-"],
        ["int8", "none", "-", "-", "-"],
    ]
    assert "for bf16: 3: openvino bf16: no measured rate holds; at the lowest, 10 requests/s, p99 was 41.5 ms." in text
    assert "for int8: 4: openvino int8: performance capacity failed." in text
    assert "It is assumed that n servers take n times as much as one" in text and "≥" not in text
    shown = sizing_lines(config.capacity, results).splitlines()
    assert shown[1] == "  fp32: 18 (2: openvino fp32, 9,600 inferences/s each)"
    assert [line.split(" (")[0] for line in shown[2:]] == ["  bf16: -", "  int8: -"]


def test_demand_is_configured_and_a_slow_client_makes_it_an_upper_limit(measured: Callable[..., Results]) -> None:
    config, results = measured(slow_client=True, sizing={"inferences_per_second": 9600, "load": 1})
    assert "  fp32: ≤ 1 (2: openvino fp32, ≥ 9,600 inferences/s each)" in sizing_lines(config.capacity, results)
    assert "≥: the capacity may be higher" in "".join(sizing_section(config.capacity, results))
    config, results = measured(sizing={"inferences_per_second": 1800, "rows": 1})
    shown = sizing_lines(config.capacity, results)
    assert "in requests of 1 row at" in shown and "  fp32: ≤ 4 (1: onnx fp32, ≥ 900 inferences/s each)" in shown
    assert "bf16: - (3: openvino bf16: requests of 1 row were not measured at this budget)" in shown
    config, results = measured(state=StageState.OK)
    assert "no rate was tried, capacity needs more `seconds`" in sizing_lines(config.capacity, results)
    assert sizing_section(None, results) == [] and sizing_lines(None, results) == ""


def test_servers_are_enough_and_not_one_too_many(measured: Callable[..., Results]) -> None:
    _, results = measured()

    @settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
    @given(st.floats(1, 1e9), st.floats(0.01, 1), st.lists(st.floats(1, 1e6), min_size=1, max_size=5))
    def check(wanted: float, load: float, capacities: list[float]) -> None:
        """Of experiments of one precision that differ only in their capacity."""
        found = [dataclasses.replace(results[0], capacity=marked([row(1, 20, rate)])) for rate in capacities]
        (need,) = Demand(wanted, 1, 20.0, load).needs(found)
        each = max(capacities) * load
        assert need.row is not None and need.row["Inferences/Second"] == max(capacities)
        assert need.servers * each >= wanted * (1 - 1e-9)
        assert need.servers == 1 or (need.servers - 1) * each < wanted * (1 + 1e-9)

    check()
