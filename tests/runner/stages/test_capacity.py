"""Command lines of the stages that measure capacity."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.stages.capacity import performance_capacity
from runner.stages.ensemble import ensemble_capacity
from runner.workspace import create_workspace
from tests.runner.conftest import ENSEMBLE, Plain


def test_capacity_of_each_model_is_asked_for_as_configured(small_config: Plain, tmp_path: Path) -> None:
    remote = {"triton_http_url": "http://far:1", "triton_grpc_url": "grpc://far:2", "triton_model_repository": "models"}
    capacity = {"latency_budgets_ms": [7.5, 20], "rows": [8, 1], "run_seconds": 0.4, "seconds": 12}
    path = tmp_path / "config.yaml"
    keys = {"triton_launch_mode": "remote", "header_env": ["TOKEN"], "ensemble_model_name": ENSEMBLE}
    path.write_text(yaml.safe_dump(small_config | remote | keys | {"capacity": capacity}))
    made = Experiment.create(load_config(path), 1, create_workspace(tmp_path / "workspace"))
    made.server = TritonServer(http_url="http://far:1", grpc_url="grpc://far:2", metrics_url="")
    (network,), (ensemble,) = performance_capacity(made), ensemble_capacity(made)
    rows = shlex.join(map(str, made.network.row_arguments(64)))
    asked = (
        "--evaluation-mode capacity --latency-budget-ms 7.5 20 --rows 1 8 --capacity-run-seconds 0.4 "
        "--capacity-seconds 12.0 --result-path"
    )
    assert shlex.join(network.argv) == (
        f"{sys.executable} {ROOT}/run_performance_on_triton.py --server-url http://far:1 --header-env TOKEN "
        f"--model-name WidenDeep {rows} {asked} {made.folders.results}/triton_performance_capacity.csv"
    )
    line = shlex.join(ensemble.argv)
    assert f"--model-name {ENSEMBLE} " in line and "raw_dataloader.py" in line
    assert line.endswith(f"{asked} {made.folders.results}/ensemble/triton_performance_capacity.csv")
    assert [network.name, ensemble.name] == ["performance_capacity", "ensemble_performance_capacity"]
    for share_s, seconds in ((11.0, 11.0), (2.0, 6.4), (50.0, 12.0)):  # 8 runs of 0.4 s for each of two sizes
        made.sweep_s = share_s
        (shorter,) = performance_capacity(made)
        assert shorter.argv[shorter.argv.index("--capacity-seconds") + 1] == str(seconds)
