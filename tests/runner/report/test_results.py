from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.results.tables import write_csv
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.report.results import read_results
from runner.workspace import create_workspace


def test_summary_shows_the_dump_farthest_from_the_framework(small_config: dict[str, Any], tmp_path: Path) -> None:
    """A metric without a limit, which the gate does not look for, may be missing in the table."""
    path = tmp_path / "config.yaml"
    metrics = {"rmse": {"max_loss": 1, "title": "RMSE"}, "other": {"title": "Other"}}
    path.write_text(yaml.safe_dump(small_config | {"correctness": {"metrics": metrics}}))
    experiment = Experiment.create(load_config(path), 1, create_workspace(tmp_path / "workspace"))
    values = {"framework": 0.5, "grpc_async": 0.4, "http_async": 0.7}
    table = [
        {"name": name, "rmse": value, "rmse_difference": value - 0.5, "max_abs_diff": 0.1}
        for name, value in values.items()
    ]
    write_csv(experiment.folders.results / "correctness.csv", table)
    (result,) = read_results(experiment, [])
    assert result.parameters["signature"] == ""
    (result.folder / "config.pbtxt").write_text('input { name: "x" }\ninput { name: "y" }\n')
    assert result.parameters["signature"] == "2 tensors"
    shown = {name: value for name, value in result.summary.items() if name.startswith(("RMSE", "Other"))}
    assert shown == {
        "RMSE framework": "0.500000",
        "RMSE served": "0.700000",
        "Other framework": "",
        "Other served": "",
    }
