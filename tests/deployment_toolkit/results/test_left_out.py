from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.left_out import LeftOut, left_out_path, read_left_out

LEFT_OUT = LeftOut(5, ((2048, 1), (1024, 1)), ((3072, 1),))


def test_what_was_left_out_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    assert not read_left_out(path)
    LEFT_OUT.write(path)
    assert read_left_out(path) == LeftOut(5, ((1024, 1), (2048, 1)), LEFT_OUT.repeats)
    LeftOut(5).write(path)
    assert not list(tmp_path.iterdir()), "nothing was left out of the sweep after it"


def test_points_are_named_by_what_distinguishes_them() -> None:
    assert LEFT_OUT.words == (
        "2 of 5 points not measured (batch 1024, 2048 at concurrency 1); 1 that did not settle not repeated "
        "(batch 3072 at concurrency 1)"
    )
    assert "(concurrency 64, 128 at batch 32)" in LeftOut(4, ((32, 128), (32, 64))).words
    assert "(batch 1 at concurrency 2, batch 8 at concurrency 4)" in LeftOut(4, ((8, 4), (1, 2))).words


def test_damaged_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    left_out_path(path).write_text("Points,Batch,Concurrency,Left Out\n5,1,1,nothing\n")
    with pytest.raises(DataError, match=r"latency_left_out\.csv, line 2 does not say what was left out"):
        read_left_out(path)
