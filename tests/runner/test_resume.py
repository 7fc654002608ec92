"""Runs that go on where they were killed, interrupted, or failed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, DeploymentError, UsageError
from runner.__main__ import main
from runner.killed_runs import marked_as_running
from runner.report.results import metrics_of
from runner.resuming.ledger import LEDGER_FILE
from runner.workspace import Workspace
from tests.runner.conftest import DEADLINE_S, STAGES, experiment, rows, states, task

Plain = dict[str, Any]
SEED = 21
KILLS = 3
TABLES = ("triton_performance_offline.csv", "triton_performance_online.csv")
RUNNER = [sys.executable, "-m", "runner"]


@pytest.fixture
def own_root(workspace_root: Path, finished_run: tuple[Path, str], tmp_path: Path) -> Path:
    """A workspace of this test alone, with the checkpoint of the others; the data set is there too."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "checkpoints").symlink_to(workspace_root / "checkpoints")
    return root


@pytest.fixture
def start(own_root: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the runner with options, in a process group of its own that is ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*RUNNER, *options, "--workspace-path", str(own_root)],
            cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def written(path: Path, config: Plain) -> list[str]:
    """Option that names a configuration, which is written."""
    path.write_text(yaml.safe_dump(config))
    return ["--config-path", str(path)]


def measured(run: Path) -> dict[str, list[dict[str, str]]]:
    """Rows of the first experiment's tables, without the verdict that depends on the others."""
    found = {name: run / "experiment_1" / name for name in TABLES}
    return {name: [row | {"Disturbed": ""} for row in rows(path)] for name, path in found.items() if path.exists()}


def _wait_for_progress(run: Path, part: int, stages: int, process: subprocess.Popen[str]) -> None:
    """Waits until so many stages of the first experiment have ended well in this part of the run."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        if (run / "task.yaml").exists():
            record = task(run)
            own = [stage for stage in record["stages"] if stage.get("part", 1) == part and stage["experiment"] == 1]
            if sum(stage["state"] == "ok" for stage in own) >= stages:
                return
        time.sleep(0.1)
    raise AssertionError(f"{stages} stages did not end in {DEADLINE_S} s")


def ends_well(process: subprocess.Popen[str]) -> str:
    told = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 0, told
    return told


def test_run_that_is_killed_at_any_moment_goes_on_to_the_end(
    finished_run: tuple[Path, str],
    small_config: Plain,
    own_root: Path,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    nothing_left: None,
) -> None:
    moments = random.Random(SEED)
    config = small_config | {"configurations": [experiment(export_format="onnx")]}
    process = start(*written(tmp_path / "config.yaml", config))
    run = own_root / "runs" / "latest"
    before: dict[str, list[dict[str, str]]] = {}
    for part in range(1, KILLS + 1):
        _wait_for_progress(run, part, moments.randint(1, 2), process)
        time.sleep(moments.uniform(0, 3))
        process.kill()
        process.communicate()
        now = measured(run)
        for name, known in before.items():
            assert now[name][: len(known)] == known, "what was measured is measured once"
        before = now
        process = start("--resume")
    told = ends_well(process)
    assert "1: onnx fp32" in told and "KEPT, it ended in part" in told
    whole = measured(run)
    for name, known in before.items():
        assert whole[name][: len(known)] == known
    assert [(row["Batch"], row["Concurrency"]) for row in whole[TABLES[0]]] == [("1", "1"), ("64", "1")]
    assert [(row["Batch"], row["Concurrency"]) for row in whole[TABLES[1]]] == [("1", "64"), ("1", "128")]

    record = task(run)
    assert states(run, 1) == dict.fromkeys(STAGES, "ok")
    assert [part["ended"] for part in record["parts"]] == [*["killed"] * KILLS, "ok"]
    assert len({stage.get("part", 1) for stage in record["stages"]}) > 1
    assert "killed" not in record and record["parts"][0]["command"].endswith(f"--workspace-path {own_root}")
    report = (run / "report.md").read_text()
    assert f"This run has {KILLS + 1} parts" in report and "Every stage of every experiment passed." in report
    assert report.count("### Offline") == report.count("### Online") == report.count("### Correctness") == 1
    assert "Converted: " in report
    others = {row["name"]: row for row in rows(finished_run[0] / "experiment_2" / "correctness.csv")}
    compared = rows(run / "experiment_1" / "correctness.csv")
    assert [row["name"] for row in compared] == ["framework", "grpc_async", "http_async"]
    for row in compared:
        other = others[row["name"]]
        assert (row["rows"], row["passed"]) == (other["rows"], "True")
        for metric in metrics_of(row):
            assert float(row[metric]) == pytest.approx(float(other[metric]), abs=1e-5)
    assert not (own_root / "model_store" / run.resolve().name).exists() and not list(run.glob(".*"))
    assert (run / "experiment_1" / "replay.sh").read_text().count("run_performance_on_triton.py") >= 2
    assert "--resume" not in (run / "experiment_1" / "replay.sh").read_text()


def test_failed_run_that_is_mended_and_interrupted_goes_on_with_changed_keys(
    finished_run: tuple[Path, str],
    small_config: Plain,
    own_root: Path,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    nothing_left: None,
) -> None:
    """The interrupt comes twice, as from somebody in a hurry."""
    path, run = tmp_path / "config.yaml", own_root / "runs" / "latest"
    two = [experiment(export_format="onnx", backend_accelerator="amp"), experiment(export_format="onnx")]
    process = start(*written(path, small_config | {"configurations": two[:1]}))
    told = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 1 and "accelerator amp belongs to a native backend" in told
    assert f"the run goes on with: python -m runner --resume {run.resolve().name}" in told
    converted = own_root / "shared_dir" / run.resolve().name / "experiment_1" / "converted_model"
    made = converted.stat().st_mtime_ns

    written(path, small_config | {"configurations": two[1:]})
    process = start("--resume", run.resolve().name)
    offline, online = (run / "experiment_1" / name for name in TABLES)
    deadline = time.monotonic() + DEADLINE_S
    while not online.exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.02)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    told = process.communicate(timeout=60)[0]
    assert process.returncode == 130, told
    assert states(run, None) == dict.fromkeys(("demo data", "preprocessing", "training"), "reused")
    changed = "configurations.1.parameters.backend_accelerator"
    assert f"the configuration has changed: {changed}: stages that this concerns run again" in told
    assert states(run, 1) == {"export": "ok", "convert": "ok", "deploy": "ok", "correctness": "ok"} | {
        "performance offline": "ok",
        "performance online": "interrupted",
    }
    assert task(run)["interrupted"] is True and "The run was interrupted" in (run / "report.md").read_text()
    assert "models and dumps are kept until the next run starts" in told
    assert converted.stat().st_mtime_ns == made, "it was kept"
    first = {"offline": rows(offline), "online": rows(online)}
    assert [row["Concurrency"] for row in first["online"]] == ["128"]

    written(path, small_config | {"configurations": two[1:], "measurement_steps_online": 4})
    told = ends_well(start("--resume"))
    assert "the configuration has changed: measurement_steps_online: " in told
    assert rows(offline) == first["offline"]
    found = rows(online)
    assert [row["Concurrency"] for row in found] == ["32", "64", "96", "128"]
    assert found[3] | {"Disturbed": ""} == first["online"][0] | {"Disturbed": ""}
    record = task(run)
    assert [part["ended"] for part in record["parts"]] == ["failed", "interrupted", "ok"]
    assert record["parts"][1]["unfinished"][0].startswith("experiment 1, performance online, after ")
    parts = {stage["name"]: stage.get("part", 1) for stage in record["stages"] if stage["experiment"] == 1}
    assert parts == {"export": 1, "convert": 1, "deploy": 3, "correctness": 2} | {
        "performance offline": 2,
        "performance online": 3,
    }
    assert record["config"]["measurement_steps_online"] == 4

    process = start("--resume")
    assert f"nothing to resume: every run in {own_root / 'runs'} has ended well" in ends_well(process)


def _copied(run: Path, root: Path, **changes: Any) -> Path:
    """A copy of a run's records in another workspace, as if it had been interrupted, with a changed ledger."""
    target = root / "runs" / run.name
    target.mkdir(parents=True)
    record = task(run) | {"interrupted": True}
    (target / "task.yaml").write_text(yaml.safe_dump(record))
    ledger = json.loads((run / LEDGER_FILE).read_text())
    (target / LEDGER_FILE).write_text(json.dumps(ledger | changes))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": {"CPU": "another"}}, "was measured on another host (CPU "),
        ({"folder": "/elsewhere"}, "was started in /elsewhere: resume it from there"),
        ({"has_secrets": True}, "was started with a password in its command, which no file holds: repeat the whole"),
        ({"stages": 3}, "is not the ledger of a run"),
    ],
)
def test_run_of_another_place_is_not_resumed(
    finished_run: tuple[Path, str], tmp_path: Path, changes: Plain, message: str
) -> None:
    run = _copied(finished_run[0], tmp_path, **changes)
    before = sorted((path.name, path.read_bytes()) for path in run.iterdir())
    with pytest.raises(DeploymentError, match=re.escape(message)):
        main(["--resume", "--workspace-path", str(tmp_path)])
    assert sorted((path.name, path.read_bytes()) for path in run.iterdir()) == before


def test_run_that_is_running_is_not_resumed(finished_run: tuple[Path, str], tmp_path: Path) -> None:
    run = _copied(finished_run[0], tmp_path)
    workspace = Workspace(tmp_path, run.name)
    with (
        marked_as_running(workspace, keeps_models=False),
        pytest.raises(UsageError, match=rf"run {run.name} is still running \(process {os.getpid()}, since .* UTC\)"),
    ):
        main(["--resume", str(run), "--workspace-path", str(tmp_path)])
    assert "killed" not in task(run)


def test_what_can_not_be_resumed_is_told(
    finished_run: tuple[Path, str], workspace_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "runner")
    run = finished_run[0]
    assert main(["--resume", run.name, "--workspace-path", str(workspace_root)]) == 0
    assert f"nothing to resume: run {run.name} has ended well" in caplog.text
    for arguments, message in (
        (["--resume"], f"there is no run in {tmp_path}/runs: check --workspace-path"),
        (["--resume", "never"], f"--resume never: there is no such run in {tmp_path}/runs"),
        (["--resume", "--experiments", "1"], "leave --experiments out"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            main([*arguments, "--workspace-path", str(tmp_path)])
    run = _copied(run, tmp_path)
    (run / LEDGER_FILE).unlink()
    with pytest.raises(DataError, match=f"run {run.name} can't go on, it has no {LEDGER_FILE}: start a new run"):
        main(["--resume", "--workspace-path", str(tmp_path)])
