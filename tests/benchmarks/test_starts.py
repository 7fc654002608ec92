"""Starts of the real server with three models: a right one, one with wrong answers that the host cannot notice, and one
that the host refuses."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.process import Completed, environment, run
from tests.small_networks import ENGINES, wrong_for


def starts(folder: Path, models: Mapping[str, Path], count: int, *options: str) -> Completed:
    named = [f"{name}={path}" for name, path in models.items()]
    argv = [sys.executable, "-m", "benchmarks.starts", "--models", *named, "--starts", str(count)]
    argv += ["--sizes", "1", "7", "30", "--output-dir", str(folder / "out"), "--busy", "0", *options]
    # The command ends with 1 where something was wrong; what it printed counts here.
    argv = ["sh", "-c", '"$@" || echo "code $?"', "sh", *argv]
    return run(argv, env=environment(prepend={"PYTHONPATH": [ROOT]}), log_path=folder / "starts.log")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "starts.csv").open() as file:
        return list(csv.DictReader(file))


def test_repeated_runs_add_up_and_orders_and_protocols_vary(tmp_path: Path) -> None:
    right = wrong_for(7)  # which is computed as 8
    models = {str(engine): right.write(engine, tmp_path / str(engine)) for engine in ENGINES}
    first = starts(tmp_path, models, 2)
    second = starts(tmp_path, models, 2, "--together")
    assert "code" not in second.stdout
    assert (tmp_path / "out" / "starts.md").read_text().strip() == second.stdout.strip()
    for name in models:
        assert f"| {name} | 2 | 6 | 0 | 0 |" in first.stdout and f"| {name} | 4 | 12 | 0 | 0 |" in second.stdout
        found = [row for row in rows(tmp_path) if row["model"] == name]
        assert sorted(row["number"] for row in found) == ["1", "2", "3", "4"]
        assert {row["protocol"] for row in found} == {"grpc", "http"}
        assert len({row["order"] for row in found}) > 1 and {len(row["order"].split()) for row in found} == {3}


def test_wrong_answers_are_counted(tmp_path: Path) -> None:
    """The expected answers come from thirty rows at once. The model is wrong for thirty rows, so all of the expected
    answers are wrong and those of the host are right."""
    models = {"tiny": wrong_for(30).write(Format.OPENVINO, tmp_path / "wrong")}
    done = starts(tmp_path, models, 1, "--busy", "1")
    assert "| tiny | 1 | 3 | 3 | 0 | 0.5 |" in done.stdout and "code 1" in done.stdout
    assert "tiny, start 1: 30 rows were answered wrong" in done.stderr
    assert "1 processes beside them that keep a core busy each" in done.stdout


def test_failed_start_is_counted_and_its_log_is_kept(tmp_path: Path) -> None:
    done = starts(tmp_path, {"tiny": wrong_for(16).write(Format.OPENVINO, tmp_path / "refused")}, 1)
    assert "| tiny | 1 | 0 | 0 | 1 |" in done.stdout and "code 1" in done.stdout
    assert "asked for 16 rows at once" in done.stdout
    assert "prepared" not in (tmp_path / "out" / "tiny_1.log").read_text()
