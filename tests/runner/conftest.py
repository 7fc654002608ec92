from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from runner.command import Command
from runner.config.run import load_config
from runner.pipeline import run_pipeline
from runner.workspace import Workspace
from tests.shared_memory import left_by_measurements
from tests.small_outbrain import small_outbrain_spec
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import OUTPUT_NAME

CHECKPOINT = "small"
DEADLINE_S = 1200
ENSEMBLE = "RawWidenDeep"
STAGES = ["export", "convert", "deploy", "correctness", "performance offline", "performance online"]
Plain = dict[str, Any]
SMALL_SEARCH = {  # of two candidates, the configured one among them
    "instances": [1],
    "threads": [1],
    "preferred_batch_sizes": [16],
    "max_queue_delays_us": [300],
    "rows_per_request": 4,
    "concurrency": [4],
    "p99_budget_ms": 0.001,
    "minutes": 0.05,
    "finalists": 2,
    "rounds": 1,
    "window_ms": 200,
}


def experiment(**changes: Any) -> Plain:
    """A configuration entry."""
    parameters = {
        "checkpoint": CHECKPOINT,
        "export_format": "tf-savedmodel",
        "export_precision": "fp32",
        "format": "onnx",
        "precision": "fp32",
        "max_batch_size": 64,
        "number_of_model_instances": 1,
    }
    return {"checkpoint": changes.get("checkpoint", CHECKPOINT), "parameters": parameters | changes}


def run_here(config: Plain, workspace: Workspace, tmp_path: Path) -> tuple[int, str]:
    """Runs a configuration in this process: the exit code, and what it showed."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    stream = io.StringIO()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = run_pipeline(load_config(path), workspace, "a test", env, stream, refused={}, keep_models=False)
    return code, stream.getvalue()


def task(run: Path) -> Plain:
    """Content of task.yaml."""
    return dict(yaml.safe_load((run / "task.yaml").read_text()))


def states(run: Path, number: int | None) -> dict[str, str]:
    """State by stage of an experiment, or of the preparation."""
    return {stage["name"]: stage["state"] for stage in task(run)["stages"] if stage["experiment"] == number}


def rows(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wait_for_stage(root: Path, earlier: Path | None, name: str, process: subprocess.Popen[str]) -> Path:
    """Waits until the stage ``name`` of the first experiment has begun in the run of ``process``; returns the folder of
    this run. ``earlier`` is the latest run in the workspace before it."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        run = (root / "runs" / "latest").resolve()
        if run != earlier and (run / "task.yaml").exists() and states(run, 1).get(name) == "running":
            return run
        time.sleep(0.2)
    raise AssertionError(f"stage {name} did not begin in {DEADLINE_S} s")


class RecordingShell:
    """A mock of the shell. It runs nothing, and keeps the commands of a stage and its messages to the user."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.told: list[str] = []

    def run(self, command: Command) -> None:
        self.commands.append(command)

    def tell(self, text: str) -> None:
        self.told.append(text)

    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Plain:
    """A run over small tables. Its data and checkpoint do not exist yet; its folders are shared by the whole test
    run."""
    folder = tmp_path_factory.mktemp("runner")
    (folder / "small_spec.yaml").write_text(small_outbrain_spec(200).to_yaml())
    return {
        "model_name": "WidenDeep",
        "datasets_dir": str(folder / "datasets"),
        "datasets": [{"name": "outbrain"}],
        "checkpoints": [{"name": CHECKPOINT}],
        "configurations": [experiment()],
        "feature_spec": str(folder / "small_spec.yaml"),
        "deep_hidden_units": [16, 16],
        "demo_data": {"displays": 600, "seed": 1},
        "training": {"epochs": 1, "batch_size": 256},
        "correctness": {"one_at_a_time": False},
        "measurement": {"retries": 0, "window_ms": 200},
        "measurement_steps_offline": 1,
        "measurement_steps_online": 2,
    }


@pytest.fixture(scope="session")
def workspace_root(small_config: Plain) -> Path:
    """The workspace of ``small_config``."""
    return Path(small_config["datasets_dir"]).parent / "workspace"


@pytest.fixture(scope="session")
def finished_runs(
    small_config: Plain, workspace_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, str]]:
    """Two complete runs at the same time in one workspace. One has two experiments; the other has one, with a search,
    an ensemble and capacity, and no time but for the first point of each sweep. Both start without data and checkpoint.
    Gives the folder and the output of each."""
    folder = tmp_path_factory.mktemp("config")
    configs = {
        "two": small_config
        | {
            "configurations": [
                experiment(export_format="onnx", preferred_batch_sizes=[32]),
                experiment(export_format="onnx"),
            ],
            "correctness": {"one_at_a_time": True},
            "time_budget_minutes": 60,
        },
        "one": small_config
        | {"measurement_steps_online": 1, "ensemble_model_name": ENSEMBLE}
        | {"capacity": {"latency_budgets_ms": [100], "rows": [4], "run_seconds": 2, "seconds": 6}}
        | {"search": SMALL_SEARCH, "time_budget_minutes": 0.001},
    }
    processes = []
    for name, config in configs.items():
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "runner", "--config-path", str(path), "--workspace-path", str(workspace_root)]
        with (folder / f"{name}.log").open("w") as log:
            processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT))
    runs = []
    try:
        for name, process in zip(configs, processes, strict=True):
            code = process.wait(DEADLINE_S)
            printed = (folder / f"{name}.log").read_text()
            assert code == 0, printed
            report = next(line for line in printed.splitlines() if line.startswith("report: "))
            runs.append((Path(report.removeprefix("report: ")).parent, printed))
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)
    return runs


@pytest.fixture(scope="session")
def finished_run(finished_runs: list[tuple[Path, str]]) -> tuple[Path, str]:
    """The run with two experiments."""
    return finished_runs[0]


@pytest.fixture
def start_runner(tmp_path: Path, workspace_root: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts ``python -m runner`` with options, as a user would; the process is ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(config: Plain, *options: object) -> subprocess.Popen[str]:
        path = tmp_path / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        command = [sys.executable, "-m", "runner", "--config-path", str(path), "--workspace-path", str(workspace_root)]
        process = subprocess.Popen(
            [*command, *map(str, options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fails if a process or shared memory of the runs remains after the test."""
    folder = tmp_path_factory.getbasetemp() / "runner"
    yield
    deadline = time.monotonic() + 10
    while (left := _processes_of(folder)) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=1)
    assert not left, [process.cmdline() for process in left]
    assert not left_by_measurements(*(feature.name for feature in outbrain_spec().inputs), OUTPUT_NAME)


def _processes_of(folder: Path) -> list[psutil.Process]:
    """Processes whose command names the folder. The folder belongs to this test worker; other workers have other
    runs."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if str(folder) in command and process.pid != os.getpid():
            found.append(process)
    return found
