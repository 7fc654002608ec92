"""A complete run with the server in a container of this project's image, on a real engine."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker

from deployment_toolkit.containers.spec import LABEL
from tests.runner.conftest import DEADLINE_S, STAGES, experiment, rows, states, wait_for_stage

Plain = dict[str, Any]
Start = Callable[..., subprocess.Popen[str]]


def test_docker_run_passes_all_stages_and_leaves_no_container(
    project_image: str, small_config: Plain, start_runner: Start, workspace_root: Path, nothing_left: None
) -> None:
    process = start_runner(
        small_config
        | {"triton_launch_mode": "docker", "triton_container_image": project_image}
        | {"configurations": [experiment(format="tf-savedmodel")], "measurement_steps_online": 1}
    )
    printed, _ = process.communicate(timeout=2 * DEADLINE_S)
    assert process.returncode == 0, printed
    (line,) = (line for line in printed.splitlines() if line.startswith("report: "))
    run = Path(line.removeprefix("report: ")).parent
    assert states(run, 1) == dict.fromkeys(STAGES, "ok")
    results = run / "experiment_1"
    assert all(row["passed"] == "True" for row in rows(results / "correctness.csv"))
    assert [row["Batch"] for row in rows(results / "triton_performance_offline.csv")] == ["1", "64"]
    assert [row["Concurrency"] for row in rows(results / "triton_performance_online.csv")] == ["128"]
    assert "successfully loaded 'WidenDeep'" in (run / "logs" / "experiment_1_tritonserver.log").read_text()
    report = (run / "report.md").read_text()
    assert "Every stage of every experiment passed." in report
    assert report.count(f"| docker, {project_image}") == 1
    assert _containers(workspace_root) == []


def test_ctrl_c_removes_the_container(
    project_image: str, small_config: Plain, start_runner: Start, workspace_root: Path, nothing_left: None
) -> None:
    latest = workspace_root / "runs" / "latest"
    earlier = latest.resolve() if latest.exists() else None
    process = start_runner(
        small_config
        | {"triton_launch_mode": "docker", "triton_container_image": project_image}
        | {"configurations": [experiment(export_format="onnx")]}
    )
    run = wait_for_stage(workspace_root, earlier, "correctness", process)
    assert len(_containers(workspace_root)) == 1
    os.kill(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == 130, printed
    assert states(run, 1) == dict.fromkeys(STAGES[:3], "ok") | {"correctness": "interrupted"}
    assert _containers(workspace_root) == []


def _containers(workspace_root: Path) -> list[Any]:
    """Containers that mount a folder of the workspace."""
    with contextlib.closing(docker.from_env()) as client:
        found = client.containers.list(all=True, filters={"label": LABEL})
    return [item for item in found if any(str(workspace_root) in mount["Source"] for mount in item.attrs["Mounts"])]
