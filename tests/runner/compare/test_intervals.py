from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.compare.intervals import Interval, ratio_interval

WINDOWS = st.lists(st.floats(1e-3, 1e7), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(WINDOWS, WINDOWS, st.floats(1e-6, 1e6))
def test_interval_holds_the_ratio_and_does_not_depend_on_the_call(
    base: list[float], other: list[float], ratio: float
) -> None:
    found = ratio_interval(ratio, base, other)
    assert found is not None and found.low < ratio < found.high
    assert found == ratio_interval(ratio, base, other)


@settings(max_examples=40, deadline=None)
@given(WINDOWS, st.randoms(use_true_random=False))
def test_equal_sides_are_never_told_apart(windows: list[float], random: object) -> None:
    mixed = list(windows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    found = ratio_interval(sum(mixed) / sum(windows), windows, mixed)
    assert found is not None and found.holds_equality


@pytest.mark.parametrize(("base", "other"), [((), (1.0, 2.0)), ((1.0,), (1.0, 2.0)), ((0.0, 1.0), (1.0, 2.0))])
def test_too_few_windows_give_no_interval(base: tuple[float, ...], other: tuple[float, ...]) -> None:
    assert ratio_interval(1.0, base, other) is None
    assert ratio_interval(1.0, other, base) is None


def test_interval_of_three_windows_covers_what_it_says() -> None:
    """Of 200 pairs of measurements of one server, whose windows scatter by 3 %, about 5 % may be told apart; a plain
    percentile bootstrap would do so with about 20 %."""
    random = np.random.default_rng(7)
    told_apart = 0
    for _ in range(200):
        base, other = random.normal(1000, 30, (2, 3))
        found = ratio_interval(other.mean() / base.mean(), base, other)
        assert found is not None
        told_apart += not found.holds_equality
    assert told_apart <= 16
    slow = ratio_interval(0.8, [1000, 1010, 990], [800, 810, 790])
    assert slow is not None and 0.76 < slow.low < slow.high < 0.84


def test_interval_is_only_ever_widened() -> None:
    assert Interval(0.9, 1.1).widened(0.5, 2.0) == Interval(0.45, 2.2)
    assert Interval(0.9, 1.1).widened(2.0, 0.5) == Interval(0.9, 1.1)
    assert not Interval(1.01, math.inf).holds_equality
