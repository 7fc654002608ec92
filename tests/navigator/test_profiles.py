from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.shape_profile import ShapeProfile
from navigator.comparison import batch_sizes
from navigator.profiles import ShapeOptions, find_bounds
from navigator.values import Named

SPEC = ModelSpec((TensorSpec("a", "float32", (3,)), TensorSpec("b", "int32", (-1,), (0, 9))), ())
FIXED = ModelSpec((SPEC.inputs[0],), ())


def shapes(**by_input: tuple[int, ...]) -> list[Named[tuple[int, ...]]]:
    return [Named(name, shape) for name, shape in by_input.items()]


def test_default_bounds_are_one_row_and_the_largest_batch() -> None:
    bounds = find_bounds(ShapeOptions(max_batch_size=64), SPEC)
    assert bounds.profiles == {"a": ShapeProfile((1, 3), (64, 3), (64, 3))}
    with pytest.raises(UsageError, match="trt needs bounds of every dimension: give --max-shapes of b"):
        bounds.require_all(SPEC, "trt")


def test_given_shapes_bound_all_inputs_of_the_batch() -> None:
    options = ShapeOptions(
        min_shapes=shapes(b=(2, 2)), opt_shapes=shapes(a=(8, 3)), max_shapes=shapes(b=(16, 5)), max_batch_size=4096
    )
    bounds = find_bounds(options, SPEC)
    assert bounds.profiles == {
        "a": ShapeProfile((2, 3), (8, 3), (16, 3)),
        "b": ShapeProfile((2, 2), (8, 5), (16, 5)),
    }
    bounds.require_all(SPEC, "trt")
    assert batch_sizes(bounds) == [2, 8, 16]
    assert [tensor.shape for tensor in bounds.fixed(SPEC, "min").inputs] == [(3,), (2,)]
    assert [tensor.shape for tensor in bounds.fixed(SPEC, "max").inputs] == [(3,), (5,)]


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 5000))
def test_bounds_are_in_order_or_refused(low: int, middle: int, high: int) -> None:
    options = ShapeOptions(
        min_shapes=shapes(a=(low, 3)), opt_shapes=shapes(a=(middle, 3)), max_shapes=shapes(a=(high, 3))
    )
    if low <= middle <= high:
        bounds = find_bounds(options, FIXED)
        sizes = batch_sizes(bounds)
        assert (sizes[0], sizes[-1]) == (low, high) and sizes == sorted(set(sizes))
    else:
        with pytest.raises(UsageError, match="out of order: --min-shapes"):
            find_bounds(options, FIXED)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ShapeOptions(max_shapes=shapes(a=(8, 4))), r"--max-shapes a=8,4: the model takes batch,3 there"),
        (ShapeOptions(min_shapes=shapes(a=(8,))), r"--min-shapes a=8: the model takes batch,3 there"),
        (ShapeOptions(min_shapes=shapes(c=(8, 1))), r"--min-shapes c=8,1: the model has no input c, only a, b"),
        (ShapeOptions(opt_shapes=shapes(b=(8, 1))), "--opt-shapes of b: it has open dimensions, give its --max-shapes"),
        (ShapeOptions(max_shapes=shapes(a=(8, 3), b=(9, 3))), "--max-shapes: one batch has one size, not 8 and 9"),
        (ShapeOptions(opt_shapes=shapes(a=(64, 3))), "or --max-batch-size is too small"),
        (
            ShapeOptions(min_shapes=shapes(b=(1, 4)), max_shapes=shapes(b=(8, 3))),
            "--min-shapes, --opt-shapes and --max-shapes of b: shape profile",
        ),
    ],
)
def test_shapes_that_the_model_does_not_have_are_refused(options: ShapeOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_bounds(options, SPEC)
