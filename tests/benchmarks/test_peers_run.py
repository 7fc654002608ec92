"""The whole comparison of a small network, with the one peer that installs quickly."""

from __future__ import annotations

import csv
import shutil
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from deployment_toolkit.process import run

CHECKPOINT = "tiny"


@pytest.mark.skipif(shutil.which("wrk") is None, reason="the load generator is not there: apt-get install wrk")
def test_triton_deployment_and_fastapi_answer_the_same_rows(tiny_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "datasets" / "tiny"
    (data / "valid").mkdir(parents=True)
    shutil.copyfile(tiny_folder / "rows.parquet", data / "valid" / "rows.parquet")
    shutil.copyfile(tiny_folder / "feature_spec.yaml", data / "feature_spec.yaml")
    shutil.copytree(tiny_folder / "checkpoint", tmp_path / "workspace" / "checkpoints" / CHECKPOINT / "checkpoint")
    parameters = {
        "checkpoint": CHECKPOINT,
        "export_format": "tf-savedmodel",
        "export_precision": "fp32",
        "format": "onnx",
        "precision": "fp32",
        "max_batch_size": 64,
        "number_of_model_instances": 1,
    }
    config = {
        "model_name": "WidenDeep",
        "datasets_dir": str(tmp_path / "datasets"),
        "datasets": [{"name": "tiny"}],
        "checkpoints": [{"name": CHECKPOINT}],
        "configurations": [{"checkpoint": CHECKPOINT, "parameters": parameters}],
        "deep_hidden_units": [8, 8],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    argv: list[str | Path] = [
        *(sys.executable, "-m", "benchmarks.peers", "--config-path", tmp_path / "config.yaml", "--models", "onnx:fp32"),
        *("--peers", "fastapi", "--workspace-path", tmp_path / "workspace", "--output-dir", tmp_path / "peers"),
        *("--rows", "1", "16", "--concurrency", "4", "--passes", "1", "--seconds", "1", "--no-perf-analyzer"),
    ]
    printed = run(argv, log_path=tmp_path / "log", timeout_s=180).stdout
    with (tmp_path / "peers" / "peers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["system"], row["rows"]) for row in rows] == [
        ("this deployment", "1"),
        ("this deployment", "16"),
        ("this deployment, 2 tensors", "1"),
        ("this deployment, 2 tensors", "16"),
        ("FastAPI", "1"),
        ("FastAPI", "16"),
    ]
    for plain, packed in zip(rows[:2], rows[2:4], strict=True):
        assert 0 < float(packed["request_bytes"]) < float(plain["request_bytes"])
    for row in rows:
        assert float(row["rows_per_s"]) > 10
        assert 0 < float(row["p50_ms"]) <= float(row["p99_ms"])
        assert row["errors"] == "0"
        assert float(row["memory_mib"]) > 10
        assert float(row["largest_difference"]) < 1e-5
    assert (tmp_path / "peers" / "peers.md").read_text() == printed.removesuffix("\n")
    (head,) = (line for line in printed.splitlines() if line.startswith("| requests × rows"))
    columns = ["this deployment", "÷ best peer", "this deployment, 2 tensors", "÷ best peer, 2 tensors", "FastAPI"]
    assert [column.strip() for column in head.split("|")[2:-1]] == columns
    for own in columns[0], columns[2]:
        assert f"- {own}: faster than every peer in " in printed
    assert [path.name for path in (tmp_path / "workspace" / "peers").iterdir()] == ["onnx_fp32.onnx"]
    assert (tmp_path / "peers" / "peers_onnx_fp32.png").read_bytes().startswith(b"\x89PNG")
    assert not [each.pid for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(each.info["cmdline"])]
