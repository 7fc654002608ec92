"""Dataloaders that yield something else than batches, or the same arrays again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.contracts.dataloaders import PluginStream
from deployment_toolkit.errors import ModelError


def test_a_dataloader_that_is_no_function_is_told_at_once() -> None:
    with pytest.raises(ModelError, match="get_dataloader_fn of loader.py returned a list of 1: a function is wanted"):
        PluginStream([1], "loader.py")


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (([1], {}), r"yields a tuple of 2: \(ids, x, y\) is wanted"),
        (([1], [2], None), r"yields a list of 1 as x: \{name: array\} is wanted"),
        (([1], {"a": [2]}, 3), r"yields a int as y: \{name: array\} is wanted"),
    ],
)
def test_a_batch_of_another_form_is_told(batch: Any, message: str) -> None:
    with pytest.raises(ModelError, match=f"the dataloader of loader.py {message}"):
        next(PluginStream(lambda: iter([batch]), "loader.py")())


def test_arrays_that_are_filled_again_are_copied() -> None:
    def batches() -> Iterator[tuple[Any, Any, Any]]:
        ids, x, y = np.zeros(2, np.int64), np.zeros((2, 1), np.float32), np.zeros(2, np.int32)
        for number in range(3):
            ids[:], x[:], y[:] = number, number, number
            yield ids, {"x": x}, {"y": y}

    for number, (ids, x, y) in enumerate(list(PluginStream(batches, "loader.py")())):
        assert {*ids, *x["x"][:, 0], *y["y"]} == {number}
