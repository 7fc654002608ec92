from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.bars.__main__ import main
from benchmarks.bars.contestants import of_run
from benchmarks.bars.cpu_share import CLIENT, GROUPS, HOST
from deployment_toolkit.errors import UsageError
from runner.config.run import load_config
from tests.conftest import TinyOnnx, WriteParquet
from widedeep.features.spec import Feature, FeatureSpec

SPEC = FeatureSpec(
    numerical=(Feature("amount", "float32"),),
    onehot=(Feature("item", "int32", 10),),
    multihot=(Feature("tags", "int32", 5, 3),),
    label=Feature("clicked", "int32"),
    group_id=Feature("display_id", "int32"),
)


def _experiment(model_format: str) -> dict[str, Any]:
    parameters = {
        "checkpoint": "tiny",
        "export_format": "tf-savedmodel",
        "export_precision": "fp32",
        "format": model_format,
        "precision": "fp32",
        "max_batch_size": 64,
        "number_of_model_instances": 1,
        "host": "cpp" if model_format == "onnx" else "python",
        "threads": 1,
    }
    return {"checkpoint": "tiny", "parameters": parameters}


@pytest.fixture
def config_path(tmp_path: Path, write_parquet: WriteParquet) -> Path:
    dataset = tmp_path / "datasets" / "tiny"
    write_parquet(dataset / "valid" / "rows.parquet", 300, spec=SPEC)
    (dataset / "feature_spec.yaml").write_text(SPEC.to_yaml())
    config = {
        "model_name": "Tiny",
        "datasets_dir": str(dataset.parent),
        "datasets": [{"name": "tiny"}],
        "checkpoints": [{"name": "tiny"}],
        "configurations": [_experiment("tf-savedmodel"), _experiment("onnx")],
        "measurement": {"stability_percentage": 1000.0},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_command_measures_a_bar_and_writes_its_files(
    config_path: Path, tiny_onnx: TinyOnnx, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "unused.savedmodel").mkdir()  # no bar that is asked for needs the baseline
    models = [f"1={tmp_path / 'unused.savedmodel'}", f"2={tiny_onnx(tmp_path / 'model.onnx')}"]
    argv = ["--config-path", str(config_path), "--models", *models, "--output-dir", str(tmp_path / "bars")]
    argv += ["--bars", "served-online", "--rounds", "1", "--batches", "64", "--seconds", "0.2"]
    assert main([*argv, "--online-batch", "4", "--concurrency", "8", "--host", "python"]) == 0
    line = "| onnx fp32, 8 × 4 rows: served ÷ in process at batch 32 | ≥ 0.45 |"
    assert line in capsys.readouterr().out
    assert line in (tmp_path / "bars" / "bars.md").read_text()
    with (tmp_path / "bars" / "bars.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = {(row["quantity"], row["process"]): float(row["value"]) for row in rows}
    assert values["online, inferences/s", ""] > 100
    assert values["in process, rows/s", ""] > 1000
    assert values["online, p99 in us", ""] > 100
    cores = {process: value for (_, process), value in values.items() if process}
    assert tuple(cores) == GROUPS
    assert cores[HOST] > 0.02  # not the configured host, which is in the server's own process
    assert cores[CLIENT] > 0.02
    for name in ("bars.png", "cpu_shares.png"):
        assert (tmp_path / "bars" / name).read_bytes().startswith(b"\x89PNG")


def test_light_client_compares_both_signatures(
    config_path: Path, tiny_onnx: TinyOnnx, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("wrk") is None:
        pytest.skip("there is no wrk")
    (tmp_path / "unused.savedmodel").mkdir()
    models = [f"1={tmp_path / 'unused.savedmodel'}", f"2={tiny_onnx(tmp_path / 'model.onnx')}"]
    argv = ["--config-path", str(config_path), "--models", *models, "--output-dir", str(tmp_path / "bars")]
    argv += ["--rounds", "1", "--batches", "64", "--seconds", "0.2", "--online-batch", "4"]
    assert main([*argv, "--bars", "packed-rate", "packed-latency", "packed-rows", "onnx-single"]) == 0
    with (tmp_path / "bars" / "bars.csv").open() as file:
        measured = {row["subject"] for row in csv.DictReader(file)}
    assert measured == {"onnx fp32", "onnx fp32, packed", "onnx fp32, Python host"}
    assert "p50 packed ÷ a tensor an input | ≤ 0.6 |" in capsys.readouterr().out


def test_models_of_a_run_are_those_that_passed_the_gate_and_were_kept(config_path: Path, tmp_path: Path) -> None:
    run = tmp_path / "workspace" / "runs" / "20260101T000000Z"
    run.mkdir(parents=True)
    config = load_config(config_path)
    plain = yaml.safe_load(config_path.read_text())
    stages = [
        {"name": "correctness", "experiment": number, "state": state} for number, state in ((1, "ok"), (2, "failed"))
    ]
    record = {"command": "./runner/start_CPU.sh", "started": "2026-01-01", "system": {}, "config": plain}
    (run / "task.yaml").write_text(yaml.safe_dump({**record, "stages": stages}))
    with pytest.raises(UsageError, match="no models that passed the gate"):
        of_run(config, run)
    for number in (1, 2):
        (tmp_path / "workspace" / "shared_dir" / run.name / f"experiment_{number}" / "converted_model").mkdir(
            parents=True
        )
    with pytest.raises(UsageError, match="compare tf-savedmodel fp32 with other formats; the models are tf-savedmodel"):
        of_run(config, run)
    stages[1]["state"] = "ok"
    (run / "task.yaml").write_text(yaml.safe_dump({**record, "stages": stages}))
    assert [(item.number, item.title) for item in of_run(config, run)] == [(1, "tf-savedmodel fp32"), (2, "onnx fp32")]
