from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.tables import read_csv, read_records, write_csv
from tests.limits import few_resources


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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1\n", r":2: 1 cells under 2 titles: make the file again"),
        (b"a,b\n1,2\n1,2,3,4\n", r":3: 4 cells under 2 titles"),
        (b"a,b\n1,\xff\n", r":2: this is no UTF-8, its byte 0xff is none"),
        (b"a,b\n1," + b"x" * 200_000, r":2: not CSV: field larger than field limit"),
        (b"a,b\n" * 2_000_000, r"rows.csv is larger than 4 MiB: is it the right file"),
    ],
    ids=["short", "long", "no text", "long cell", "large"],
)
def test_damaged_table_is_told_with_its_line(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(content)
    with few_resources(), pytest.raises(DataError, match=message) as raised:
        read_csv(tmp_path / "rows.csv")
    assert "\n" not in str(raised.value)
