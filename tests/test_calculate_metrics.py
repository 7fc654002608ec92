from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, Prediction
from deployment_toolkit.process import run
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from metrics import MetricsCalculator
from tests.original_dump import click_batches, write_original_dump


def calculate(tmp_path: Path, *options: str, labels: bool = True) -> list[list[str]]:
    """Rows of the CSV that the script writes for a dump of two displays."""
    batch = Batch(np.array([1, 1, 2, 2]), {}, {"clicked": np.array([[1], [0], [1], [0]])})
    prediction = Prediction(batch, {"wide_deep_model": np.array([[0.9], [0.1], [0.2], [0.3]], np.float32)})
    with DumpWriter(DumpOptions(tmp_path / "dump", dump_labels=labels)) as dump:
        dump.write(prediction)
    table, stderr = run_script(tmp_path, options)
    assert "map12 0.750000 over 4 rows" in stderr
    return table


def run_script(tmp_path: Path, options: Sequence[str] = ()) -> tuple[list[list[str]], str]:
    """Rows of the CSV, and the log, of the dump in ``tmp_path``."""
    argv: list[str | Path] = [sys.executable, ROOT / "calculate_metrics.py", "--metrics", ROOT / "metrics.py", *options]
    argv += ["--dump-dir", tmp_path / "dump", "--csv", tmp_path / "metrics.csv"]
    completed = run(argv, log_path=tmp_path / "log")
    with (tmp_path / "metrics.csv").open() as file:
        return list(csv.reader(file)), completed.stderr


def test_metrics_csv_has_one_header_and_one_row(tmp_path: Path) -> None:
    header, row = calculate(tmp_path, "--output-used-for-metrics", "wide_deep_model")
    assert header == ["map12", "roc_auc", "log_loss"]
    assert [float(cell) for cell in row] == pytest.approx([0.75, 0.75, -np.log(0.9 * 0.9 * 0.2 * 0.7) / 4])
    assert calculate(tmp_path) == [header, row]  # replaced, not appended to


@pytest.mark.parametrize(
    ("options", "labels", "message"),
    [
        ((), False, "error: metrics need labels: make the dump with --dump-labels\n"),
        (("--output-used-for-metrics", "x"), True, "error: --output-used-for-metrics x: there is no such output"),
        (("--no-such-option",), True, "unrecognized arguments: --no-such-option"),
    ],
)
def test_errors_are_one_line_and_leave_no_csv(
    tmp_path: Path, options: tuple[str, ...], labels: bool, message: str
) -> None:
    with pytest.raises(Exception, match="exited with 1") as error:
        calculate(tmp_path, *options, labels=labels)
    stderr = error.value.stderr  # type: ignore[attr-defined]
    assert message in stderr
    assert stderr.count("\n") == 1
    assert not (tmp_path / "metrics.csv").exists()


@pytest.mark.parametrize("file_bytes", [256 << 20, 50_000])
def test_metrics_are_of_all_rows_of_a_dump_of_the_original(tmp_path: Path, file_bytes: int) -> None:
    batches = click_batches(10_000, 4096)
    write_original_dump(tmp_path / "dump", batches, file_bytes)
    calculator = MetricsCalculator()
    for batch in batches:
        calculator.update(batch["ids"]["ids"], batch["outputs"], None, batch["labels"])
    (header, row), stderr = run_script(tmp_path)
    assert "over 10000 rows" in stderr
    assert dict(zip(header, map(float, row), strict=True)) == pytest.approx(calculator.metrics, rel=1e-12)


def test_cut_dump_of_the_original_is_one_line(tmp_path: Path) -> None:
    path = write_original_dump(tmp_path / "dump", click_batches(10_000, 4096)) / "labels-000000000000.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(Exception, match="exited with 1") as error:
        run_script(tmp_path)
    stderr = error.value.stderr  # type: ignore[attr-defined]
    assert stderr.startswith(f"error: {path} can't be read as a dump: it ends too early")
    assert stderr.count("\n") == 1
    assert not (tmp_path / "metrics.csv").exists()
