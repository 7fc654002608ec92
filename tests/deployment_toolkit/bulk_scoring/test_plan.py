from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.bulk_scoring.plan import make_plan, read_plan, write_plan
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.batches import Piece

ORIGIN = {"data": ["a"], "model": {"fingerprint": "b"}, "options": {"batch_size": 8}, "versions": {}}


@given(st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=5), min_size=1, max_size=5), st.integers(1, 40))
def test_parts_are_all_rows_in_order_and_end_with_pieces(files: list[list[int]], most: int) -> None:
    pieces = [Piece(Path(str(number)), rows) for number, sizes in enumerate(files) for rows in sizes]
    plan = make_plan(pieces, most, ORIGIN)
    assert [row for part in plan.parts for row in part] == list(range(plan.rows))
    assert max(map(len, plan.parts)) <= most
    places = [plan.place_of(row) for row in range(plan.rows)]
    assert places == [(str(number), row) for number, sizes in enumerate(files) for row in range(sum(sizes))]
    for part in plan.parts:
        assert plan.files_of(part) == list(dict.fromkeys(file for file, _ in places[part.start : part.stop]))
    if most >= 30:
        ends = {sum(piece.rows for piece in pieces[: number + 1]) for number in range(len(pieces))}
        assert {part.stop for part in plan.parts} <= ends


def test_plan_is_read_as_it_was_written_and_knows_what_changed(tmp_path: Path) -> None:
    assert read_plan(tmp_path) is None
    plan = make_plan([Piece(Path("a"), 7)], 4, ORIGIN)
    write_plan(tmp_path, plan)
    assert read_plan(tmp_path) == plan
    assert plan.changed(ORIGIN) == []
    other = {**ORIGIN, "model": {"fingerprint": "c"}, "options": {"batch_size": 9}}
    assert plan.changed(other) == ["model", "options (--batch-size)"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "files": [["a"]]}'])
def test_damaged_plan_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "_plan.json").write_text(text)
    with pytest.raises(DataError, match=r"_plan\.json can't be read \(.*\): give --force to begin anew"):
        read_plan(tmp_path)
