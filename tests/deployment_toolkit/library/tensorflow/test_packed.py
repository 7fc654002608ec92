from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit.core import Arrays, TensorSpec
from deployment_toolkit.library.tensorflow.packed import PackedFunction

INPUTS = (
    TensorSpec("amount", "float32", (1,)),
    TensorSpec("grid", "float32", (2, 3)),
    TensorSpec("number", "int64", ()),
    TensorSpec("tags", "int64", (3,)),
    TensorSpec("free", "int64", (-1,)),
    TensorSpec("flag", "bool", (1,)),
    TensorSpec("name", "string", (1,)),
)


def _rows(count: int, seed: int) -> Arrays:
    generator = np.random.default_rng(seed)
    return {
        "amount": generator.random((count, 1), np.float32),
        "grid": generator.random((count, 2, 3), np.float32),
        "number": generator.integers(0, 9, count),
        "tags": generator.integers(0, 9, (count, 3)),
        "free": generator.integers(0, 9, (count, 4)),
        "flag": generator.integers(0, 2, (count, 1)).astype(bool),
        "name": np.array([[f"row {index}".encode()] for index in range(count)], object),
    }


@pytest.fixture(scope="module")
def echo() -> Any:
    """A function whose outputs are its inputs."""

    def serve(**x: Any) -> Any:
        return {f"{name} again": tf.identity(tensor) for name, tensor in x.items()}

    signature = {
        spec.name: tf.TensorSpec([None, *(None if size == -1 else size for size in spec.shape)], spec.dtype, spec.name)
        for spec in INPUTS
    }
    return tf.function(serve, autograph=False).get_concrete_function(**signature)


@pytest.mark.parametrize("count", [1, 5])
def test_packed_function_gets_inputs_unchanged(echo: Any, count: int) -> None:
    x = _rows(count, seed=count)
    answers = PackedFunction(echo, INPUTS)(x)
    assert answers.keys() == {f"{name} again" for name in x}
    for name, array in x.items():
        again = answers[f"{name} again"]
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        assert np.array_equal(again, array)


def test_inputs_of_one_dtype_are_packed_together(echo: Any) -> None:
    packed = PackedFunction(echo, INPUTS)
    assert len(packed.groups) == 5  # float32, int64, and by themselves what is free, of bool, or strings
    assert sorted(spec.name for group in packed.groups if len(group) > 1 for spec in group) == [
        "amount",
        "grid",
        "number",
        "tags",
    ]
