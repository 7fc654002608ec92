"""The campaign of faults, an episode of each part against real servers, and whether it notices what it looks for."""

from __future__ import annotations

import csv
import fcntl
import os
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

from benchmarks.faults import files
from benchmarks.faults.__main__ import PARTS, main
from benchmarks.faults.episode import Outcome
from benchmarks.faults.left_behind import marked_environment, marked_processes, unused_shared_memory, wait_for_ends
from benchmarks.faults.subjects import AskedModel, is_right
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format, ModelSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.process import child, environment, run
from tests.small_networks import ranking


def test_an_episode_of_each_part_finds_no_fault_and_a_second_call_goes_on(tmp_path: Path) -> None:
    models = [f"{name}={ranking().write(name, tmp_path / str(name))}" for name in (Format.ONNX, Format.OPENVINO)]
    argv = [sys.executable, "-m", "benchmarks.faults", "--models", *models, "--episode-s", "3", "--soak-s", "6"]
    argv += ["--output-dir", str(tmp_path / "out"), "--minutes", "0.001"]
    env = environment(prepend={"PYTHONPATH": [ROOT]})
    run(argv, env=env, log_path=tmp_path / "campaign.log", timeout_s=1200)
    first = _rows(tmp_path)
    assert {row["part"] for row in first} == set(PARTS)
    for part, counted in (("requests", "odd"), ("soak", "good"), ("starts", "starts"), ("stops", "starts")):
        assert sum(int(row[counted]) for row in first if row["part"] == part) > 0
    page = run([*argv, "--parts", "starts"], env=env, log_path=tmp_path / "again.log").stdout
    assert len(_rows(tmp_path)) == len(first) + 1 and "| **wrong answers** | 0 |" in page
    assert [row["number"] for row in _rows(tmp_path) if row["part"] == "starts"][-2:] != ["1", "1"]


def test_two_campaigns_do_not_write_to_one_folder(tmp_path: Path) -> None:
    model = ranking().write(Format.ONNX, tmp_path / "onnx")
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another campaign writes to .*: wait for it"):
            main(["--models", f"onnx={model}", "--output-dir", str(tmp_path)])
    finally:
        os.close(folder)


def _rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "out" / "faults.csv").open() as file:
        return list(csv.DictReader(file))


def test_left_process_and_left_shared_memory_are_found(tmp_path: Path) -> None:
    env = marked_environment("test_left_process")
    before = {path.name for path in Path("/dev/shm").iterdir()}
    region = Path("/dev/shm") / f"triton_{uuid.uuid4().hex}"
    with child(["sh", "-c", "sleep 60 & sleep 60"], env=env, stdout=tmp_path / "log"):
        deadline = time.monotonic() + 30
        while len(marked_processes(env)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        left = wait_for_ends(env, 0)
        assert len(left) == 3 and all("sleep 60" in line for line in left)
    assert wait_for_ends(env, 0) == []
    try:
        with region.open("wb"):
            assert region.name not in unused_shared_memory(before, 0)
        assert region.name in unused_shared_memory(before, 0)
    finally:
        region.unlink()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda folder: None, 0),
        (lambda folder: (folder / "a").write_bytes(b"short"), 1),
        (lambda folder: (folder / "b").unlink(), 1),
        (lambda folder: [path.unlink() for path in folder.iterdir()] + [folder.rmdir()], 1),
    ],
    ids=["whole", "half-written", "incomplete", "lost"],
)
def test_target_that_is_not_whole_is_found(tmp_path: Path, change: object, found: int) -> None:
    for folder in (tmp_path / "whole", tmp_path / "target"):
        folder.mkdir()
        for name in "ab":
            (folder / name).write_bytes(bytes(10_000))
    change(tmp_path / "target")  # type: ignore[operator]
    outcome = Outcome()
    files.check(tmp_path / "whole", tmp_path / "target", outcome, earlier=True)
    assert outcome.counts["bad_files"] == found


def test_earlier_file_of_any_bytes_is_known(tmp_path: Path) -> None:
    for name, content in (("whole", b"\xfc" * 100), ("target", b"\xfc" * 100 + b"earlier")):
        (tmp_path / name).write_bytes(content)
    outcome = Outcome()
    files.check(tmp_path / "whole", tmp_path / "target", outcome, earlier=True)
    assert not any(outcome.counts.values())


@pytest.mark.parametrize(("difference", "right"), [(0.0, True), (2e-5, False), (float("nan"), False)])
def test_wrong_answer_is_found(difference: float, right: bool) -> None:
    expected = {"y": np.zeros((3, 1), np.float32)}
    subject = AskedModel("m", Path(), ModelSpec((), ()), {}, expected, 1e-5)
    assert is_right(subject, {"y": expected["y"] + np.float32(difference)}, expected) is right
    assert not is_right(subject, {"y": expected["y"][:2]}, expected)
