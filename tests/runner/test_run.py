"""The main job with small tables through a real tritonserver and a real perf_analyzer."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.report import PERFORMANCE_COLUMNS
from tests.runner.conftest import ROOT, experiment

Plain = dict[str, Any]
Start = Callable[[Plain], subprocess.Popen[str]]
STAGES = ["export", "convert", "deploy", "correctness", "performance offline", "performance online"]
PNG = b"\x89PNG"
DEADLINE_S = 400


def _task(run: Path) -> Plain:
    return dict(yaml.safe_load((run / "task.yaml").read_text()))


def _states(run: Path, number: int | None) -> dict[str, str]:
    return {stage["name"]: stage["state"] for stage in _task(run)["stages"] if stage["experiment"] == number}


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="session")
def finished_run(
    small_config: Plain, workspace_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """A whole run of two experiments that makes its own data and checkpoint: its folder and what it printed."""
    path = tmp_path_factory.mktemp("config") / "config.yaml"
    path.write_text(
        yaml.safe_dump(small_config | {"configurations": [experiment(format="tf-savedmodel"), experiment()]})
    )
    command = [sys.executable, "-m", "runner", "--config-path", str(path), "--workspace-path", str(workspace_root)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return (workspace_root / "runs" / "latest").resolve(), done.stdout


def test_every_stage_passes_and_is_recorded(finished_run: tuple[Path, str], nothing_left: None) -> None:
    run, printed = finished_run
    task = _task(run)
    assert [stage["name"] for stage in task["stages"]] == ["demo data", "preprocessing", "training", *STAGES, *STAGES]
    assert {stage["state"] for stage in task["stages"]} == {"ok"}
    assert all(stage["seconds"] > 0 for stage in task["stages"])
    assert all(stage["peak_memory_bytes"] > 2**20 for stage in task["stages"] if stage["seconds"] > 2)
    assert task["system"]["packages"]["tensorflow-cpu"]
    assert task["finished"] > task["started"]
    assert task["config"]["model_name"] == "WidenDeep"
    for name in STAGES:
        assert f"experiment 2 · {name}" in printed
    assert str(run / "report.md") in printed


@pytest.mark.parametrize("number", [1, 2])
def test_an_experiment_leaves_its_results(finished_run: tuple[Path, str], number: int) -> None:
    folder = finished_run[0] / f"experiment_{number}"
    correctness = _rows(folder / "correctness.csv")
    assert [row["name"] for row in correctness] == ["framework", "grpc_async", "grpc_sync", "http_async", "http_sync"]
    assert all(row["passed"] == "True" and float(row["max_abs_diff"]) < 1e-5 for row in correctness)
    assert len({row["rows"] for row in correctness}) == 1
    offline = _rows(folder / "triton_performance_offline.csv")
    assert list(offline[0]) == [column.name for column in PERFORMANCE_COLUMNS]
    assert [(row["Batch"], row["Concurrency"]) for row in offline] == [("1", "1"), ("32", "1"), ("64", "1")]
    online = _rows(folder / "triton_performance_online.csv")
    assert [(row["Batch"], row["Concurrency"]) for row in online] == [("1", "64"), ("1", "128")]
    assert all(float(row["Inferences/Second"]) > 0 for row in offline + online)
    config = (folder / "config.pbtxt").read_text()
    assert "max_batch_size: 64" in config
    assert "dynamic_batching" in config


def test_the_run_is_summed_up(finished_run: tuple[Path, str], workspace_root: Path) -> None:
    run, _ = finished_run
    for name in ("correctness", "triton_performance_offline", "triton_performance_online"):
        rows = _rows(run / f"{name}_summary.csv")
        assert [row["format"] for row in rows[:: len(rows) // 2]] == ["tf-savedmodel", "onnx"]
    for name in ("throughput_vs_batch", "latency_vs_batch", "latency_vs_concurrency"):
        assert (run / "plots" / f"{name}.png").read_bytes().startswith(PNG)
    report = (run / "report.md").read_text()
    assert "Every stage of every experiment passed." in report
    assert report.count("### Offline") == report.count("### Online") == report.count("### Correctness") == 2
    assert "p99 latency (ms)" in report
    assert not (workspace_root / "model_store" / run.name).exists(), "models of a run that passed are not kept"


def test_the_replay_script_repeats_an_experiment(
    finished_run: tuple[Path, str], tmp_path: Path, nothing_left: None
) -> None:
    folder = finished_run[0] / "experiment_2"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    out = tmp_path / "workspace" / "again"
    command = ["bash", str(folder / "replay.sh"), str(out)]
    env = {**os.environ, "PROJECT": str(ROOT)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    names = {path.name for path in (out / "results").iterdir()}
    assert {"correctness.csv", "triton_performance_offline.csv", "triton_performance_online.csv"} <= names
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_ctrl_c_stops_everything_and_keeps_what_was_measured(
    finished_run: tuple[Path, str], small_config: Plain, start_runner: Start, workspace_root: Path, nothing_left: None
) -> None:
    first, _ = finished_run
    kept = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    process = start_runner(small_config | {"measurement_steps_online": 64})
    run = _wait_for_stage(workspace_root, first, "performance online", process)
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert _states(run, None) == {"demo data": "reused", "preprocessing": "reused", "training": "reused"}
    assert _states(run, 1)["performance online"] == "interrupted"
    assert len(_rows(run / "experiment_1" / "triton_performance_offline.csv")) == 3
    assert "interrupted" in (run / "report.md").read_text()
    assert {path: path.read_bytes() for path in first.rglob("*") if path.is_file()} == kept


def _wait_for_stage(root: Path, earlier: Path, name: str, process: subprocess.Popen[str]) -> Path:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        run = (root / "runs" / "latest").resolve()
        if run != earlier and (run / "task.yaml").exists() and _states(run, 1).get(name) == "running":
            return run
        time.sleep(0.2)
    raise AssertionError(f"stage {name} did not begin in {DEADLINE_S} s")
