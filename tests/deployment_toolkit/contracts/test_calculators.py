"""What a calculator of the metrics reads and the dump does not have is named, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.contracts.calculators import PluginCalculator
from deployment_toolkit.core import Array, Batch, Prediction
from deployment_toolkit.errors import DataError

Read = Callable[[dict[str, Array], dict[str, Array]], Any]


class Reader:
    """Reads something of each batch."""

    metrics: Any = None

    def __init__(self, read: Read) -> None:
        self._read = read

    def update(self, ids: Any, y_pred: Any, x: Any, y_real: Any) -> None:
        self._read(x, y_real)


def prediction(x: dict[str, Array], y: dict[str, Array]) -> Prediction:
    return Prediction(Batch(np.arange(2), x, y), {"score": np.zeros((2, 1), np.float32)})


COLUMN = np.zeros((2, 1), np.float32)


@pytest.mark.parametrize(
    ("x", "y", "read", "message"),
    [
        ({}, {"clicked": COLUMN}, lambda x, y: x["price"], "the input price: make the dump with --dump-inputs"),
        ({"age": COLUMN}, {}, lambda x, y: x["price"], r"the input price: there is no such input, there are \['age'\]"),
        ({}, {}, lambda x, y: y["clicked"], "metrics need labels: make the dump with --dump-labels"),
        ({}, {"a": COLUMN, "b": COLUMN}, lambda x, y: y["c"], r"the label c: the dump's labels \['a', 'b'\]"),
    ],
)
def test_what_a_dump_lacks_is_named(x: dict[str, Array], y: dict[str, Array], read: Read, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PluginCalculator(Reader(read)).update(prediction(x, y))
