"""Commands that send requests to a model of the server."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.stages.client import gate_command, offline_sweep, performance_command
from runner.workspace import create_workspace
from tests.runner.conftest import experiment as entry

REMOTE = {
    "triton_launch_mode": "remote",
    "triton_http_url": "http://127.0.0.1:1",
    "triton_grpc_url": "grpc://127.0.0.1:2",
    "triton_model_repository": "repository",
}


@pytest.mark.parametrize(
    ("uid", "keys", "user"),
    [
        (0, {"container_version": "25.07"}, ["65534:65534"]),
        (1000, {"container_version": "25.07"}, []),
        (0, {}, []),
        (0, REMOTE, []),
        (0, REMOTE | {"triton_client_user": "1000:100"}, ["1000:100"]),
    ],
    ids=[
        "root's run of a container",
        "a user's run of a container",
        "root's run of the embedded server",
        "root's run of a running server",
        "root's run of a running server of another user",
    ],
)
def test_perf_analyzer_runs_as_the_user_of_the_server_container(
    small_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uid: int,
    keys: dict[str, Any],
    user: list[str],
) -> None:
    monkeypatch.setattr("os.getuid", lambda: uid)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | keys))
    config, workspace = load_config(path), create_workspace(tmp_path / "workspace")
    server = TritonServer(http_url="http://127.0.0.1:1", grpc_url="grpc://127.0.0.1:2", metrics_url="")
    experiment = Experiment.create(config, 1, workspace)
    experiment.server = server
    for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE):
        points = offline_sweep(experiment)
        command = performance_command(experiment, "name", "model", mode, points, [], tmp_path / "latency.csv")
        given = [value for name, value in itertools.pairwise(command.argv) if name == "--client-user"]
        assert given == user


@pytest.mark.parametrize(
    ("precision", "limits"),
    [
        ("fp32", "--atol 1e-05 --rtol 0.0001 --max-metric-loss map12=0.0001 --if-defined map12"),
        ("int8", "--atol 0.1 --rtol 0 --max-metric-loss map12=0.02 --max-metric-loss roc_auc=0.02 --if-defined map12"),
    ],
)
def test_gate_has_the_limits_of_the_precision(
    small_config: dict[str, Any], tmp_path: Path, precision: str, limits: str
) -> None:
    path = tmp_path / "config.yaml"
    changes = {
        "configurations": [entry(format="openvino", precision=precision)],
        "correctness": {"reduced_precision_max_metric_loss": 0.02},
    }
    path.write_text(yaml.safe_dump(small_config | changes))
    experiment = Experiment.create(load_config(path), 1, create_workspace(tmp_path / "workspace"))
    command = gate_command(experiment, "gate", tmp_path / "framework", [tmp_path / "served"], tmp_path / "gate.csv")
    assert limits in " ".join(command.argv)
