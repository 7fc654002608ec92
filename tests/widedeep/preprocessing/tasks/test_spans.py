"""Parts of a table that are read alone hold its rows, each once and in order."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.errors import DataError
from widedeep.preprocessing.raw_csv import CLICKS, read_span, stream
from widedeep.preprocessing.raw_files import find_tables
from widedeep.preprocessing.tasks.spans import spans_of, together
from widedeep.preprocessing.times import DisplayTimes

FORMS: dict[str, tuple[Callable[[Path], object], int]] = {  # and the fewest parts
    "plain": (lambda path: None, 9),
    "lines of Windows, no end": (
        lambda path: path.write_text(path.read_text().rstrip("\n"), newline="\r\n"),
        9,
    ),
    "lines of old Macs": (lambda path: path.write_text(path.read_text(), newline="\r"), 1),
    "packed": (lambda path: path.write_bytes(bz2.compress(path.read_bytes())), 1),
}


@pytest.mark.parametrize(("change", "fewest"), FORMS.values(), ids=FORMS)
def test_spans_hold_each_row_once_in_order(
    change: Callable[[Path], object], fewest: int, raw: Path, few_raw: Path
) -> None:
    change(raw / CLICKS)
    whole = pa.Table.from_batches(list(stream(few_raw, CLICKS)))
    size = (raw / CLICKS).stat().st_size
    for span_bytes in (size // 10, size // 3, size):
        spans = spans_of(find_tables(raw, CLICKS), span_bytes)
        assert sum(span.size_bytes for span in spans) == size
        batches = [batch for span in spans for batch in read_span(span, DisplayTimes(), lambda _: None)]
        assert pa.Table.from_batches(batches).equals(whole)
        assert len(spans) >= fewest if span_bytes < size // 5 else len(spans) < 5
        assert [span for piece in together(spans, size // 4) for span in piece] == spans


def test_spans_of_parquet_are_row_groups_and_errors_name_the_row_of_the_file(raw: Path, few_raw: Path) -> None:
    whole = pa.Table.from_batches(list(stream(few_raw, CLICKS)))
    (raw / CLICKS).unlink()
    pq.write_table(whole, raw / "clicks_train.parquet", row_group_size=50)
    spans = spans_of(find_tables(raw, CLICKS), 1)
    assert len(spans) == -(-whole.num_rows // 50)
    batches = [batch for span in spans for batch in read_span(span, DisplayTimes(), lambda _: None)]
    assert pa.Table.from_batches(batches).equals(whole)
    clicked = whole["clicked"].to_pylist()
    clicked[120] = 3
    pq.write_table(whole.set_column(2, "clicked", pa.array(clicked)), raw / "clicks_train.parquet", row_group_size=50)
    with pytest.raises(DataError, match=r"clicks_train\.parquet: column clicked holds 3 in row 120: it must be 0 or 1"):
        list(read_span(spans[2], DisplayTimes(), lambda _: None))
