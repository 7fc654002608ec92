from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.tables import read_records, write_csv


@dataclass(frozen=True)
class Row:
    name: str
    count: int
    share: float


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [Row("a, b", 3, 0.1), Row("é", -1, 1e-9)]
    write_csv(tmp_path / "rows.csv", [vars(row) for row in rows])
    assert read_records(tmp_path / "rows.csv", Row) == rows
    assert read_records(tmp_path / "none.csv", Row) == []


@pytest.mark.parametrize("text", ["name,count\na,1\n", "name,count,share\na,one,1\n", "name,count,share,x\na,1,1,1\n"])
def test_records_of_another_kind_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    with pytest.raises(
        DataError, match=r"rows\.csv has other columns or values than this version writes: move it away"
    ):
        read_records(tmp_path / "rows.csv", Row)
