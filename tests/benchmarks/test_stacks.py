"""Comparison of this checkout with itself, its steps and its server, and its page."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from benchmarks.stacks import BEFORE, NOW, StepMeasurement, page
from benchmarks.stacks_serving import LOAD, MEMORY, START
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.process import environment, run
from tests.small_networks import wrong_for


def test_steps_and_serving_are_done_in_both_checkouts_and_measured(tmp_path: Path) -> None:
    model = wrong_for(7).write(Format.OPENVINO, tmp_path / "right")  # which is computed as 8
    steps = ["raw data", "calculate_metrics.py --help"]
    argv = [sys.executable, "-m", "benchmarks.stacks", "--before", str(ROOT), "--steps", *steps, "--displays", "100"]
    argv += ["--rounds", "1", "--output-dir", str(tmp_path / "out"), "--models", f"tiny={model}"]
    done = run(argv, env=environment(prepend={"PYTHONPATH": [ROOT]}), log_path=tmp_path / "log", timeout_s=240)
    assert (tmp_path / "out" / "stacks.md").read_text().strip() == done.stdout.strip()
    with (tmp_path / "out" / "stacks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["step"], row["round"], row["side"]) for row in rows) == sorted(
        (step, "1", side) for step in steps for side in (BEFORE, NOW)
    )
    with (tmp_path / "out" / "serving.csv").open() as file:
        served = list(csv.DictReader(file))
    whats = [START, LOAD, "1 × 1: p50, ms", "8 × 1: rows/s", "1 × 1,024: p50, ms", "8 × 1,024: rows/s", MEMORY]
    assert [(row["round"], row["what"], row["side"]) for row in served] == [
        ("1", what, side) for what in whats for side in (BEFORE, NOW)
    ]
    assert all(float(row["value"]) > (10 if row["what"] == MEMORY else 0) for row in served)
    assert done.stdout.count("\n| tiny |") == len(whats)
    assert all(0 < float(row["cpu_s"]) < 60 and 10 < float(row["peak_mib"]) < 2000 for row in rows)


def test_page_shows_the_ratio_of_each_round() -> None:
    seconds = {BEFORE: [1.0, 2.0, 4.0], NOW: [2.0, 2.0, 2.0]}
    measured = [
        StepMeasurement("export", number, side, value, value, 1000 + number)
        for side, values in seconds.items()
        for number, value in enumerate(values, 1)
    ]
    ratio = "1.00 (0.50 to 2.00)"
    assert f"| export | 2 | 2 | {ratio} | 2 | 2 | {ratio} | 1,002 | 1,002 |" in page(
        measured, [], "a machine", "a command"
    )
