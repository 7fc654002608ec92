from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import RowError
from deployment_toolkit.rows.batches import BadRow
from tests.scored import SPEC, SmallData, make_small_data
from widedeep.data.parquet import ParquetDataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return make_small_data(tmp_path_factory.mktemp("small"), files=3, rows=700)  # row groups of 250, 250 and 200


def read(dataset: ParquetDataset, rows: range, bad: list[BadRow] | None = None) -> Arrays:
    """Columns of a slice, read in batches of 64, and the numbers of its rows."""
    slices = list(dataset.slice(rows, 64, None if bad is None else bad.append))
    assert all(len(numbers) <= 64 for numbers, _ in slices)
    columns = [{"row": numbers, "ids": batch.ids, **batch.x, "label": batch.y["clicked"]} for numbers, batch in slices]
    return {name: np.concatenate([item[name] for item in columns]) for name in columns[0]}


@pytest.mark.parametrize(
    "rows", [range(1), range(250), range(200, 300), range(240, 1460), range(699, 701), range(2100)]
)
def test_slice_is_a_part_of_all_rows(data: SmallData, rows: range) -> None:
    dataset = ParquetDataset(data.pattern, SPEC)
    (every,) = dataset.batches(2100)
    part = read(dataset, rows)
    np.testing.assert_array_equal(part["row"], np.array(rows))
    np.testing.assert_array_equal(part["ids"], every.ids[rows.start : rows.stop])
    for name in ("x1", "x2"):
        np.testing.assert_array_equal(part[name], every.x[name][rows.start : rows.stop])
    np.testing.assert_array_equal(part["label"], every.y["clicked"][rows.start : rows.stop])


def test_bad_rows_are_told_with_their_places_and_left_out(data: SmallData, tmp_path: Path) -> None:
    own = make_small_data(tmp_path, files=2, rows=700)
    table = pq.read_table(own.files[1])
    x2, clicked = table["x2"].to_pylist(), table["clicked"].to_pylist()
    x2[0] = [5, 1000]
    x2[255] = [1, 2, 3, 4]
    clicked[255] = clicked[699] = 7
    table = table.set_column(table.column_names.index("x2"), "x2", pa.array(x2, table["x2"].type))
    table = table.set_column(table.column_names.index("clicked"), "clicked", pa.array(clicked, pa.int32()))
    pq.write_table(table, own.files[1], row_group_size=250)
    dataset = ParquetDataset(own.pattern, SPEC)
    with pytest.raises(RowError, match=r"rows-1\.parquet: column x2, row 0 holds 1000"):
        read(dataset, range(600, 1000))
    bad: list[BadRow] = []
    part = read(dataset, range(600, 1400), bad)
    wanted = np.delete(np.arange(600, 1400), [100, 355, 799])
    np.testing.assert_array_equal(part["row"], wanted)
    assert [(item.path, item.row) for item in bad] == [(own.files[1], 0), (own.files[1], 255), (own.files[1], 699)]
    assert bad[0].reason == "column x2 holds 1000, outside 0 .. 599"
    assert bad[1].reason == "column x2 holds a list of 4, longer than max_hotness 3"
    assert bad[2].reason == "column clicked holds 7, outside 0 .. 1"
    x1 = np.concatenate([pq.read_table(path)["x1"].to_numpy() for path in own.files])
    np.testing.assert_array_equal(part["x1"][:, 0], x1[wanted])
