from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import arrivals
from deployment_toolkit.core import Format
from tests.small_networks import wrong_for


def test_both_load_generators_measure_each_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = wrong_for(7).write(Format.ONNX, tmp_path / "right")  # which is computed as 8
    options = ["--rows", "2", "--rates", "300", "--seconds", "2.4", "--rounds", "1", "--output-dir", str(tmp_path)]
    arrivals.main(["--models", f"tiny={model}", *options])
    with (tmp_path / "arrivals.csv").open() as file:
        found = {row["tool"]: row for row in csv.DictReader(file)}
    assert found.keys() == {"LoadGen", "perf_analyzer"}
    for row in found.values():
        assert float(row["answered"]) == pytest.approx(300, rel=0.2)
        assert 0 < float(row["p50"]) <= float(row["p99"])
    assert found["LoadGen"]["late"] and not found["perf_analyzer"]["late"]
    shown = capsys.readouterr().out
    assert (tmp_path / "arrivals.md").read_text() in shown and "from when the request was due" in shown
