from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.bulk_scoring.bad_rows import BadRows
from deployment_toolkit.bulk_scoring.plan import make_plan
from deployment_toolkit.core import Arrays, Batch, ModelSpec, Prediction, TensorSpec
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.batches import Piece

PLAN = make_plan([Piece(Path("a"), 5), Piece(Path("b"), 5)], 10, {})
NUMBERS = np.arange(3, 7)  # the last two rows of a, the first two of b


def test_rows_without_an_answer_are_bad(tmp_path: Path) -> None:
    batch = Batch(NUMBERS * 10, {"x": NUMBERS[:, None]}, {"label": NUMBERS % 2})
    answers: Arrays = {"y": np.array([[0.5], [np.nan], [0.25], [np.inf]], np.float32), "n": NUMBERS}
    bad = BadRows(PLAN, 2)
    numbers, kept = bad.without_unanswered(NUMBERS, Prediction(batch, answers))
    assert numbers.tolist() == [3, 5] and kept.batch.ids.tolist() == [30, 50]
    assert kept.y_pred["y"].tolist() == [[0.5], [0.25]] and kept.y_pred["n"].tolist() == [3, 5]
    assert kept.batch.x["x"].tolist() == [[3], [5]] and kept.batch.y["label"].tolist() == [1, 1]
    bad.write(tmp_path / "bad.csv")
    told = (tmp_path / "bad.csv").read_text().splitlines()
    assert told == ["file,row,reason", "a,4,the model answers y nan", "b,1,the model answers y inf"]
    BadRows(PLAN, 2).write(tmp_path / "bad.csv")
    assert not (tmp_path / "bad.csv").exists()
    with pytest.raises(DataError, match="^a: row 4: the model answers y nan: mend or drop the row"):
        BadRows(PLAN, 0).without_unanswered(NUMBERS, Prediction(batch, answers))


def test_a_row_with_several_faults_counts_once() -> None:
    spec = ModelSpec((TensorSpec("u", "int32", (2,), (-1, 9)), TensorSpec("v", "int32", (1,), (0, 9))), ())
    u = np.array([[0, 1], [10, 11], [-1, -1], [0, -2]], np.int32)
    batch = Batch(NUMBERS, {"u": u, "v": np.array([[1], [99], [3], [4]], np.int32)})
    bad = BadRows(PLAN, 9)
    numbers, kept = bad.without_refused(NUMBERS, batch, spec)
    assert len(bad) == 2 and numbers.tolist() == [3, 5] and kept.x["u"].tolist() == [[0, 1], [-1, -1]]
