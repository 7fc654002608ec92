from __future__ import annotations

import csv
import sys
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import environment, run
from tests.scored import make_small_data


def test_benchmark_measures_speed_and_memory(tmp_path: Path) -> None:
    data = make_small_data(tmp_path / "small", files=1)
    argv: list[str | Path] = [sys.executable, "-m", "benchmarks.bulk_scoring", "--output-dir", tmp_path / "out"]
    argv += ["--input-path", data.model, "--input-type", "onnx", "--batch-size", "100", "--engine-seconds", "0.1"]
    argv += ["--feature-spec", data.folder / "data" / "feature_spec.yaml", "--rows", "3000", "--workers", "1"]
    argv += ["--sample-seconds", "0.2"]
    env = environment(None, prepend={"PYTHONPATH": [ROOT]})
    printed = run(argv, log_path=tmp_path / "log", env=env).stdout
    assert "--rows 3000" in printed and "1 workers: " in printed
    with (tmp_path / "out" / "scoring.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["rows"] == "3000" and float(row["share"]) > 0 and float(row["peak_mib"]) > 50
    with (tmp_path / "out" / "memory.csv").open() as file:
        assert len(list(csv.DictReader(file))) > 1
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == set()
