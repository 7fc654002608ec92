"""Comparison of two servers of this checkout, one as the old and one as the new version, both started and loaded."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

from benchmarks.versions import AGAIN, BEFORE, NOW, VersionMeasurement, page
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.process import Completed, environment, run
from tests.small_networks import wrong_for


def versions(folder: Path, *arguments: str | Path) -> Completed:
    argv = [sys.executable, "-m", "benchmarks.versions", *map(str, arguments), "--output-dir", str(folder / "out")]
    env = environment(prepend={"PYTHONPATH": [ROOT]})
    return run(argv, env=env, log_path=folder / "versions.log", timeout_s=300)


def test_versions_are_compared_in_each_batch_size_and_load_time(tmp_path: Path) -> None:
    model = wrong_for(7).write(Format.OPENVINO, tmp_path / "right")  # which is computed as 8
    arguments: list[str | Path] = [
        "--before",
        ROOT,
        "--models",
        f"tiny={model}",
        "--batch-sizes",
        "1",
        "30",
        "--starts",
        "1",
    ]
    done = versions(tmp_path, *arguments, "--seconds", "0.3")
    assert (tmp_path / "out" / "versions.md").read_text().strip() == done.stdout.strip()
    with (tmp_path / "out" / "versions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["what"] for row in rows[::3]] == ["load", "1 x 1", "1 x 30", "64 x 32"]
    assert [row["server"] for row in rows[:3]] == [BEFORE, AGAIN, NOW]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert {row["speed"] for row in rows if row["server"] == BEFORE} == {"1.0"}
    assert done.stdout.count("\n| tiny |") == 4


def test_page_shows_medians_over_the_starts() -> None:
    speeds = {BEFORE: [1.0, 1.0, 1.0], AGAIN: [0.9, 1.0, 1.1], NOW: [1.2, 0.5, 1.4]}
    measured = [
        VersionMeasurement("m", start, "8 rows", server, seconds, speed)
        for server, seconds in ((BEFORE, 0.004), (AGAIN, 0.004), (NOW, 0.002))
        for start, speed in enumerate(speeds[server], 1)
    ]
    text = page(measured, "a machine", "a command")
    assert "| m | 8 rows | 1.20 (0.50 to 1.40) | 1.00 (0.90 to 1.10) | 4 ms | 2 ms |" in text
    assert "a machine. Made by `a command`" in text


def test_folder_without_a_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match=r"error: --before \S+: no checkout of this project is there"):
        versions(tmp_path, "--before", tmp_path, "--models", "tiny=x")
