from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from deployment_toolkit.core import Array, Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.sample import first_rows, random_rows

SPEC = ModelSpec(
    (
        TensorSpec("tags", "int32", (3,), (-1, 1)),
        TensorSpec("item", "int64", (1,), (0, 9)),
        TensorSpec("price", "float32", (1,)),
    ),
    (),
)


def dataloader() -> Iterator[tuple[Array, Arrays, Arrays]]:
    for start in (0, 4, 8):
        ids = np.arange(start, start + 4)
        yield ids, {"item": ids[:, None]}, {}


def test_random_rows_are_seeded_and_fill_the_value_ranges() -> None:
    rows = random_rows(SPEC, 200, seed=1)
    assert SPEC.check_inputs(rows) == 200
    assert [sorted(set(rows[name].ravel())) for name in ("tags", "item")] == [[-1, 0, 1], list(range(10))]
    assert np.ptp(rows["price"]) > 0.9
    again, other = random_rows(SPEC, 200, seed=1), random_rows(SPEC, 200, seed=2)
    assert all(np.array_equal(rows[name], again[name]) for name in rows)
    assert not np.array_equal(rows["item"], other["item"])


def test_random_rows_refuse_inputs_of_unknown_range_or_shape() -> None:
    with pytest.raises(DataError, match="input a takes ids and nothing says how many there are: give a --dataloader"):
        random_rows(ModelSpec((TensorSpec("a", "int32", (1,)),), ()), 1, seed=1)
    with pytest.raises(DataError, match=r"input a has rows of any shape \[-1\]: give a --dataloader"):
        random_rows(ModelSpec((TensorSpec("a", "float32", (-1,)),), ()), 1, seed=1)


@pytest.mark.parametrize(("wanted", "given"), [(3, 3), (6, 6), (100, 12)])
def test_first_rows_come_from_several_batches(wanted: int, given: int) -> None:
    assert first_rows(dataloader, wanted)["item"].ravel().tolist() == list(range(given))


def test_dataset_without_rows_is_reported() -> None:
    with pytest.raises(DataError, match="yields no rows"):
        first_rows(lambda: iter(()), 3)
