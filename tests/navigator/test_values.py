from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.core import TensorSpec
from deployment_toolkit.errors import UsageError
from navigator.values import (
    GivenTensor,
    Named,
    by_name,
    key_value,
    named,
    parse_dtype,
    parse_range,
    parse_shape,
    parse_tensor,
    parse_tolerance,
)

NAMES = st.text("abcXYZ019_/-.", min_size=1)
NUMBERS = st.integers(-(10**6), 10**6).map(float) | st.sampled_from([0.5, 1e-5, 12.25])


@given(st.lists(st.integers(1, 10**9), min_size=1).map(tuple))
def test_shape_is_read_as_it_is_written(shape: tuple[int, ...]) -> None:
    assert parse_shape(",".join(map(str, shape))) == shape


@given(st.text("0123456789,-. ab"))
def test_shape_parser_accepts_shapes_only(text: str) -> None:
    try:
        assert ",".join(map(str, parse_shape(text))) == text
    except ValueError as error:
        assert "is no shape: give whole numbers from 1 on, the batch dimension first" in str(error)


@given(NAMES, NAMES, st.lists(st.just(-1) | st.integers(1, 99)), st.sampled_from(["int32", "int64", "float16"]))
def test_tensor_is_read_as_it_is_written(new: str, name: str, shape: list[int], dtype: str) -> None:
    tensor = GivenTensor(name, TensorSpec(new, dtype, tuple(shape)))
    assert parse_tensor(repr(tensor)) == tensor


@pytest.mark.parametrize("text", ["x", "x:1:int32", "x:-1,0:int32", ":-1:int32", "x:-1,1:int33", "x:-1,1,:int32"])
def test_invalid_tensor_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=text):
        parse_tensor(text)


@given(st.just("") | NAMES, NUMBERS, NUMBERS)
def test_value_range_is_read_as_it_is_written_and_in_order(name: str, one: float, other: float) -> None:
    given_range = Named(name, (min(one, other), max(one, other)))
    assert named(parse_range)(repr(given_range)) == given_range
    if one > other:
        with pytest.raises(argparse.ArgumentTypeError, match="the lower bound comes first"):
            named(parse_range)(repr(Named(name, (one, other))))


@pytest.mark.parametrize("text", ["-1", "nan", "1e", ""])
def test_invalid_tolerance_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number|is at least 0"):
        parse_tolerance(text)


def test_dtype_has_the_numpy_name() -> None:
    assert (parse_dtype("f4"), parse_dtype("int32")) == ("float32", "int32")


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b"]), st.integers())))
def test_named_value_wins_over_the_default_and_later_over_earlier(values: list[tuple[str, int]]) -> None:
    found = by_name("--flag", [Named(*item) for item in values], ["a", "b", "c"])
    last = dict(values)
    expected = {name: last.get(name, last.get("")) for name in ("a", "b", "c")}
    assert found == {name: value for name, value in expected.items() if value is not None}


def test_unknown_name_is_reported_as_it_was_written() -> None:
    with pytest.raises(UsageError, match=r"--atol d=0.5: the model has no output d, only a, b"):
        by_name("--atol", [Named("d", 0.5)], ["a", "b"], "output")


@given(NAMES, st.integers())
def test_key_value_pair_is_split_at_the_first_equals_sign(key: str, value: int) -> None:
    assert key_value(str, int)(f"{key}={value}") == (key, value)
    assert key_value()(f"{key}=a=b") == (key, "a=b")
    for text in (key, f"={value}", f"{key}=x"):
        with pytest.raises(argparse.ArgumentTypeError):
            key_value(str, int)(text)
