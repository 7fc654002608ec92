from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import DataloaderModule, Format, MetricsModule, Precision
from deployment_toolkit.errors import DataError
from deployment_toolkit.hardware import missing_instructions
from deployment_toolkit.options.plugins import load_module

EXAMPLE = ROOT / "examples" / "dcn"
INT8 = 4  # number of the experiment
DEADLINE_S = 600
PAGE = (ROOT / "docs" / "another-network.md").read_text()
COMMAND = ".venv/bin/python -m runner --config-path examples/dcn/config.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    """The example's configuration, with little data and short measurements."""
    plain: dict[str, Any] = yaml.safe_load((EXAMPLE / "config.yaml").read_text())
    network = plain["network"]
    for key in ("model", "dataloader", "metrics"):
        network[key] = str(EXAMPLE / network[key])
    network["prepare_data"] = f"{EXAMPLE}/{network['prepare_data']} --rows 12000"
    network["prepare_checkpoint"] = f"{EXAMPLE}/{network['prepare_checkpoint']} --epochs 2"
    return plain | {
        "correctness": plain["correctness"] | {"one_at_a_time": False},
        "measurement": {"retries": 0, "window_ms": 200},
        "measurement_steps_offline": 1,
        "measurement_steps_online": 1,
    }


def test_example_runs_to_its_report(config: dict[str, Any], tmp_path: Path) -> None:
    assert f"```bash\n{COMMAND}\n```" in PAGE
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config | {"datasets_dir": str(tmp_path / "datasets")}))
    served = Format.ONNX if missing_instructions(Precision.INT8) else Format.OPENVINO
    command = [sys.executable, "-m", "runner", "--config-path", str(path), "--experiments", str(INT8)]
    command += ["--workspace-path", str(tmp_path / "workspace")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stdout + done.stderr
    run = (tmp_path / "workspace" / "runs" / "latest").resolve()
    stages = yaml.safe_load((run / "task.yaml").read_text())["stages"]
    assert [stage["name"] for stage in stages] == [
        *("data", "training"),
        *("export", "convert", "deploy", "correctness", "performance offline", "performance online"),
    ]
    report = (run / "report.md").read_text()
    for words in ("# DCN, run", "RMSE framework", "RMSE served", "NDCG@10 served", f"{served} int8"):
        assert words in report
    assert "MAP@12" not in report
    for word in ("throughput_vs_batch.png", "latency_vs_concurrency.png"):
        assert (run / "plots" / word).is_file()
    results = run / f"experiment_{INT8}"
    replay = (results / "replay.sh").read_text()
    assert "--metrics examples/dcn/metrics.py" in replay
    assert "--hotness 4" in replay
    with (results / "correctness.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["passed"] for row in table] == ["True"] * 3
    assert all(row["rmse_difference"] and row["ndcg10_difference"] for row in table)
    assert f"Converted: {served}-opset13-int8: " in report
    assert "hidden layers in int8" in report
    assert {row["tolerance"] for row in table} == {"0.5 + 0 * |reference|"}
    assert max(float(row["max_abs_diff"]) for row in table) > 1e-5
    assert "--calibration-data-pattern" in replay
    assert "train/*.parquet" in replay
    assert "--max-metric-loss rmse=0.003" in replay and "--max-metric-loss ndcg10=0.003" in replay


def test_dataloader_pads_lists_and_joins_files(tmp_path: Path) -> None:
    for name, users in (("a", [5, 6, 7]), ("b", [8, 9])):
        lists = [[1, 2], [], [3]][: len(users)]
        columns = {
            "user": users,
            "genres": pa.array(lists, pa.list_(pa.int64())),
            "rating": np.array(users, np.float32),
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    module = load_module(EXAMPLE / "dataloader.py", DataloaderModule)
    stream = module.get_dataloader_fn(data_pattern=str(tmp_path / "*.parquet"), batch_size=4)
    assert stream.num_rows == 5
    (ids, x, y), (_, rest, _) = stream()
    assert ids.tolist() == [5, 6, 7, 8]
    assert x["genres"].tolist() == [[1, 2, -1, -1], [-1] * 4, [3, -1, -1, -1], [1, 2, -1, -1]]
    assert y["rating"].tolist() == [[5], [6], [7], [8]]
    assert rest["user"].tolist() == [[9]]
    with pytest.raises(DataError, match="a row has 2 ids, the model takes 1"):
        list(module.get_dataloader_fn(data_pattern=str(tmp_path / "*.parquet"), hotness=1)())


def test_metrics_agree_with_their_definitions() -> None:
    module = load_module(EXAMPLE / "metrics.py", MetricsModule)
    random = np.random.default_rng(1)
    ids, ratings = random.integers(0, 20, 300), random.integers(1, 6, (300, 1)).astype(np.float32)
    predicted = random.random((300, 1), np.float32) * 5
    calculator = module.MetricsCalculator()
    for part in (slice(0, 100), slice(100, 300)):
        calculator.update(ids[part], {"rating": predicted[part]}, None, {"rating": ratings[part]})
    expected = []
    for user in range(20):
        mine = ids == user
        gains = 2 ** ratings[mine, 0] - 1
        discounts = 1 / np.log2(np.arange(2, 12))[: len(gains)]
        in_order = gains[np.argsort(-predicted[mine, 0])][:10]
        expected.append((in_order * discounts).sum() / (np.sort(gains)[::-1][:10] * discounts).sum())
    assert calculator.metrics["ndcg10"] == pytest.approx(np.mean(expected))
    assert calculator.metrics["rmse"] == pytest.approx(np.sqrt(np.mean((predicted - ratings) ** 2)))
