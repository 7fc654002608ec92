from __future__ import annotations

import csv
from pathlib import Path

import pytest

from benchmarks import first_requests
from deployment_toolkit.core import Format
from tests.small_networks import wrong_for


def test_loads_with_and_without_warmup_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = wrong_for(7).write(Format.ONNX, tmp_path / "right")  # which is computed as 8
    options = ["--sizes", "1", "4", "--requests", "5", "--loads", "1", "--hosts", "cpp", "--output-dir", str(tmp_path)]
    first_requests.main(["--models", f"tiny={model}", *options])
    with (tmp_path / "first_requests.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [(row["rows"], row["warm"]) for row in found] == [(r, w) for w in ("False", "True") for r in ("1", "4")]
    assert all(float(row["first_p99"]) > 0 and float(row["later_p99"]) > 0 for row in found)
    assert (tmp_path / "first_requests.md").read_text() in capsys.readouterr().out
