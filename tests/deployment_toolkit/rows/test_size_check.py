"""Comparison of answers in many sizes; plain functions replace a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.core import Array, Arrays, ModelSpec, TensorSpec
from deployment_toolkit.errors import ModelError, SizeError
from deployment_toolkit.rows.request_sizes import load_sizes, request_sizes
from deployment_toolkit.rows.size_check import SizeComparison, check_rows

SPEC = ModelSpec(
    (TensorSpec("item", "int32", (2,), (5, 9)), TensorSpec("amount", "float32", (1,))),
    (TensorSpec("score", "float32", (1,)), TensorSpec("place", "int64", (2,))),
)
TOLERANCE = 1e-5
Infer = Callable[[Arrays], Arrays]


def check_sizes(infer: Infer, spec: ModelSpec, sizes: Sequence[int], tolerance: float) -> float:
    """The largest difference between the answers. Raises SizeError if it is more than ``tolerance``."""
    comparison = SizeComparison(infer, spec, sizes)
    comparison.require(tolerance)
    return comparison.largest


def right(x: Arrays) -> Arrays:
    score = x["amount"] + x["item"].sum(axis=1, keepdims=True, dtype=np.float32)
    return {"score": score, "place": x["item"].astype(np.int64)}


def wrong_in(sizes: set[int], harm: Callable[[Arrays], None]) -> Infer:
    """A model with wrong answers in requests of these sizes."""

    def infer(x: Arrays) -> Arrays:
        y = right(x)
        if len(x["amount"]) in sizes:
            harm(y)
        return y

    return infer


def put(name: str, row: int, value: float) -> Callable[[Arrays], None]:
    def harm(y: Arrays) -> None:
        y[name][row % len(y[name])] += np.asarray(value).astype(y[name].dtype)

    return harm


@settings(derandomize=True, deadline=None, max_examples=300)
@given(
    max_batch_size=st.one_of(st.integers(3, 70), st.integers(3, 5000)),
    chosen=st.integers(0, 10**6),
    row=st.integers(0, 10**6),
    harm=st.sampled_from([("score", 0.5), ("score", 3e-4), ("score", np.nan), ("score", np.inf), ("place", 1)]),
)
def test_wrong_size_is_named_for_any_size_and_row(
    max_batch_size: int, chosen: int, row: int, harm: tuple[str, float]
) -> None:
    sizes = load_sizes(max_batch_size)
    wrong = sizes[chosen % len(sizes)]
    name, value = harm
    with pytest.raises(SizeError, match=f"^requests of {wrong} rows are answered wrongly: output {name} of row "):
        check_sizes(wrong_in({wrong}, put(name, row, value)), SPEC, sizes, TOLERANCE)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    max_batch_size=st.integers(0, 5000),
    noise=st.floats(0, 4e-6),
    seed=st.integers(0, 2**32 - 1),
    constant=st.sampled_from([None, np.nan, np.inf, 0.0]),
)
def test_noise_below_the_tolerance_passes_and_is_returned(
    max_batch_size: int, noise: float, seed: int, constant: float | None
) -> None:
    generator = np.random.default_rng(seed)

    def infer(x: Arrays) -> Arrays:
        y = right(x)
        y["score"] = y["score"] + (generator.uniform(-noise, noise, y["score"].shape) * 18).astype(np.float32)
        if constant is not None:
            y["score"] = np.full_like(y["score"], constant)
        return y

    largest = check_sizes(infer, SPEC, load_sizes(max_batch_size), TOLERANCE)
    assert largest <= TOLERANCE
    if constant is not None or max_batch_size == 1:
        assert largest == 0


def test_size_error_names_the_difference_and_the_limit() -> None:
    infer = wrong_in({64}, put("score", 3, 0.5))
    with pytest.raises(SizeError) as caught:
        check_sizes(infer, SPEC, load_sizes(4096), TOLERANCE)
    x = check_rows(SPEC, 4096)
    score = right(x)["score"]
    wrong, limit = score[3, 0] + np.float32(0.5), score.max() * TOLERANCE
    assert str(caught.value).startswith(
        "requests of 64 rows are answered wrongly: output score of row 3 differs by 0.5 "
        f"({wrong:.7g} instead of {score[3, 0]:.7g}), allowed is {limit:.3g}; load it again"
    )
    infer = wrong_in({64}, put("place", 3, 2))
    with pytest.raises(SizeError, match=r"output place of row 3 is \d+ instead of \d, and may not differ; load"):
        check_sizes(infer, SPEC, load_sizes(4096), TOLERANCE)


def test_size_is_named_if_only_a_later_request_of_it_is_wrong() -> None:
    requests: list[int] = []

    def infer(x: Arrays) -> Arrays:
        y, rows = right(x), len(x["amount"])
        if rows == 5 and 5 in requests:
            y["score"][0] += 1
        requests.append(rows)
        return y

    with pytest.raises(
        SizeError, match="^requests of 5 rows are answered wrongly: output score of row 1 differs by 1 "
    ):
        check_sizes(infer, SPEC, load_sizes(6), TOLERANCE)


def test_wrong_sizes_are_all_named() -> None:
    with pytest.raises(
        SizeError, match="^requests of 63, 128 and 4096 rows are answered wrongly: output score of row 1 "
    ):
        check_sizes(wrong_in({63, 128, 4096}, put("score", 1, 1.0)), SPEC, load_sizes(4096), TOLERANCE)


def test_size_error_with_only_two_sizes_names_both() -> None:
    with pytest.raises(SizeError, match="^requests of 1 and of 2 rows are answered differently, either may be wrong: "):
        check_sizes(wrong_in({2}, put("score", 0, 1.0)), SPEC, (1, 2), TOLERANCE)


def test_wrong_answer_that_occurs_only_once_is_an_error() -> None:
    asked: list[int] = []

    def infer(x: Arrays) -> Arrays:
        asked.append(len(x["amount"]))
        y = right(x)
        if asked[-1] == 512 and asked.count(512) == 1:
            y["score"] = np.full_like(y["score"], 0.99)
        return y

    with pytest.raises(SizeError, match="^requests of 512 rows are answered wrongly"):
        check_sizes(infer, SPEC, load_sizes(512), TOLERANCE)
    assert sum(asked) < 6000


@pytest.mark.parametrize("max_batch_size", [0, 1, 2, 64, 1000, 4095, 4096, 131072])
def test_size_check_sends_at_most_ten_thousand_rows(max_batch_size: int) -> None:
    asked: list[int] = []

    def infer(x: Arrays) -> Arrays:
        asked.append(len(x["amount"]))
        return right(x)

    sizes = load_sizes(max_batch_size)
    SizeComparison(infer, SPEC, sizes)
    assert sum(asked) <= 10_000
    assert set(asked) == set(sizes)
    assert {1, 2, 4, 8, 16, 32, 64, 128, 256, 512} & set(range(1, max_batch_size + 1)) <= set(sizes)
    if max_batch_size:
        assert max(sizes) == (max_batch_size if max_batch_size <= 4096 else 512)


def test_slow_model_is_checked_in_fewer_sizes() -> None:
    def infer(x: Arrays) -> Arrays:
        time.sleep(0.001 * len(x["amount"]))
        return wrong_in({16}, put("score", 1, 1.0))(x)

    started = time.monotonic()
    comparison = SizeComparison(infer, SPEC, load_sizes(4096), patience_s=0.5)
    assert time.monotonic() - started < 2
    assert comparison.sizes == list(load_sizes(4096))[: len(comparison.sizes)]
    assert 17 <= comparison.sizes[-1] <= 255
    with pytest.raises(SizeError, match="^requests of 16 rows are answered wrongly"):
        comparison.require(TOLERANCE)
    (only,) = SizeComparison(infer, SPEC, load_sizes(4096), patience_s=0).sizes
    assert only == 1


@pytest.mark.parametrize("max_batch_size", [1, 2, 7, 64, 1000, 4096, 5000, 131072])
def test_request_sizes_include_the_largest_and_bucket_borders(max_batch_size: int) -> None:
    sizes = request_sizes(max_batch_size)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] == 1 and sizes[-1] == max_batch_size
    assert sum(sizes) < 9_000 + 4 * max_batch_size
    assert sum(request_sizes(4096)) < 55_333  # the demo's validation rows
    borders = {border + step for border in (8, 16, 32, 64, 128, 256, 512) for step in (-1, 0, 1)}
    assert {size for size in borders if size <= max_batch_size} <= set(sizes)


@pytest.mark.parametrize("answer", [lambda a: a[:1], lambda a: np.float32(1), lambda a: a.reshape(-1, 2)])
def test_answer_with_a_wrong_number_of_rows_is_named_with_its_size(answer: Callable[[Array], Array]) -> None:
    def infer(x: Arrays) -> Arrays:
        y = right(x)
        return y | ({"score": answer(y["score"])} if len(x["amount"]) == 16 else {})

    with pytest.raises(ModelError, match=r"a request of 16 rows is answered by \[.*\] of output score"):
        SizeComparison(infer, SPEC, load_sizes(64))


def test_failed_size_is_named_with_the_runtime_error() -> None:
    def infer(x: Arrays) -> Arrays:
        if len(x["amount"]) == 33:
            raise RuntimeError("no kernel")
        return right(x)

    with pytest.raises(ModelError, match="a request of 33 rows, tried before the model is ready, fails: no kernel"):
        SizeComparison(infer, SPEC, load_sizes(64))


@pytest.mark.parametrize("free", [True, False])
def test_output_shape_may_depend_on_the_size_only_if_it_is_free(free: bool) -> None:
    spec = ModelSpec(SPEC.inputs, (TensorSpec("wide", "float32", (-1 if free else 2,)),))

    def infer(x: Arrays) -> Arrays:
        return {"wide": np.ones((len(x["amount"]), 3 if len(x["amount"]) == 5 else 2), np.float32)}

    if free:
        assert check_sizes(infer, spec, load_sizes(64), TOLERANCE) == 0
        return
    with pytest.raises(SizeError, match=r"requests of 5 rows .* output wide of row 0 has shape \[3\] instead of \[2\]"):
        check_sizes(infer, spec, load_sizes(64), TOLERANCE)


DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "object")


def test_check_rows_fit_any_model_and_its_value_ranges() -> None:
    inputs = [TensorSpec(dtype, dtype, (-1, 2)) for dtype in DTYPES]
    inputs += [TensorSpec("ids", "int64", (1,), (-1, 2**40)), TensorSpec("unit", "float32", (1,), (-3, 4))]
    spec = ModelSpec(tuple(inputs), ())
    x = check_rows(spec, 500)
    for dtype in DTYPES:
        assert x[dtype].dtype == dtype and x[dtype].shape == (500, 1, 2)
        if dtype == "object":
            assert set(x[dtype].flat) == {""}
        elif not dtype.startswith("float"):
            assert set(x[dtype].flat) == {0, 1}
        else:
            assert 0 <= x[dtype].min() < 0.1 and 0.9 < x[dtype].max() <= 1
    assert spec.check_inputs(x) == 500
    assert x["ids"].max() > 2**38 and x["unit"].min() < -2 and x["unit"].max() > 3
    assert all((x[name] == array).all() for name, array in check_rows(spec, 500).items())
