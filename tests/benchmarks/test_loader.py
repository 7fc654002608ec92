from __future__ import annotations

import csv
import importlib.metadata
import sys
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import run

BENCHMARK = ROOT / "benchmarks" / "loader.py"


def test_loader_benchmark_measures_speed_and_peak_memory(tmp_path: Path) -> None:
    argv: list[str | Path] = [
        sys.executable,
        BENCHMARK,
        "--rows",
        "3000",
        "--repeats",
        "2",
        "--batch-sizes",
        "64",
        "1000",
    ]
    printed = run([*argv, "--csv", tmp_path / "loader.csv"], log_path=tmp_path / "log").stdout
    assert "--rows 3000" in printed
    assert f"pyarrow {importlib.metadata.version('pyarrow')}" in printed
    with (tmp_path / "loader.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(row["rows"], row["batch_size"]) for row in table] == [
        ("3000", "64"),
        ("3000", "1000"),
        ("12000", "64"),
        ("12000", "1000"),
    ]
    for row in table:
        assert 0 < float(row["slowest"]) <= float(row["rows_per_s"]) <= float(row["fastest"])
        assert float(row["peak_mib"]) > 10
