from __future__ import annotations

import itertools
import math
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import MetricsModule
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.options.plugins import load_module

module = load_module(ROOT / "metrics.py", MetricsModule)
OUTPUT = "wide_deep_model"


def calculate(ids: Any, scores: Any, clicks: Any, batch_size: int = 1000) -> dict[str, float]:
    ids, scores, clicks = np.array(ids), np.array(scores, np.float32)[:, None], np.array(clicks, np.int32)[:, None]
    calculator = module.MetricsCalculator()
    for start in range(0, len(ids), batch_size):
        rows = slice(start, start + batch_size)
        calculator.update(ids[rows], {OUTPUT: scores[rows]}, None, {"clicked": clicks[rows]})
    metrics: dict[str, float] = calculator.metrics
    return metrics


def average_precision(clicks: tuple[bool, ...], ranks: int) -> float:
    hits = [k for k, click in enumerate(clicks, 1) if click and k <= ranks]
    return sum(sum(clicks[:k]) / k for k in hits) / min(sum(clicks), ranks)


def mean_over_orders(rows: list[tuple[float, bool]], ranks: int) -> float:
    """Mean of the AP over all orders of the rows in which the scores do not increase."""
    orders = [
        order for order in itertools.permutations(rows) if all(a[0] >= b[0] for a, b in itertools.pairwise(order))
    ]
    return sum(average_precision(tuple(click for _, click in order), ranks) for order in orders) / len(orders)


ROW = st.tuples(st.integers(0, 3), st.sampled_from([0.0, 0.25, 0.5]), st.booleans())  # display, score, click


@given(rows=st.lists(ROW, min_size=1, max_size=12), ranks=st.integers(1, 4))
def test_map_is_the_mean_over_all_orders_of_ties(rows: list[tuple[int, float, bool]], ranks: int) -> None:
    displays = [[row[1:] for row in rows if row[0] == display][:5] for display in range(4)]
    kept = [(display, *row) for display, group in enumerate(displays) for row in group]
    kept.sort(key=lambda row: rows.index(row))  # displays lie mixed
    expected = [mean_over_orders(group, ranks) for group in displays if any(click for _, click in group)]
    ids, scores, clicks = (np.array(column) for column in zip(*kept, strict=True))
    actual = module.mean_average_precision(ids, scores, clicks, ranks)
    assert actual == pytest.approx(np.mean(expected)) if expected else math.isnan(actual)


@given(rows=st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=40))
def test_auc_counts_pairs(rows: list[tuple[int, bool]]) -> None:
    hits = [score for score, click in rows if click]
    misses = [score for score, click in rows if not click]
    scores, clicks = (np.array(column) for column in zip(*rows, strict=True))
    actual = module.roc_auc(scores / 8, clicks)
    if hits and misses:
        won = sum((hit > miss) + 0.5 * (hit == miss) for hit in hits for miss in misses)
        assert actual == pytest.approx(won / (len(hits) * len(misses)), abs=1e-15)
    else:
        assert math.isnan(actual)


def test_metrics_have_known_values() -> None:
    # Display 7: clicks at ranks 2 and 3 of 3, (1/2 + 2/3) / 2. Display 9: at rank 1. Display 8: no click, no AP.
    metrics = calculate([7, 9, 7, 8, 7, 9], [0.9, 0.8, 0.6, 0.5, 0.2, 0.1], [0, 1, 1, 0, 1, 0], batch_size=4)
    assert metrics["map12"] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert metrics["roc_auc"] == pytest.approx(5 / 9)
    likelihood = 0.1 * 0.8 * 0.6 * 0.5 * 0.2 * 0.9
    assert metrics["log_loss"] == pytest.approx(-math.log(likelihood) / 6, rel=1e-6)


def test_map_ignores_a_click_beyond_rank_12() -> None:
    scores = np.linspace(0.9, 0.1, 50)
    for rank, expected in ((12, 1 / 12), (13, 0.0), (50, 0.0)):
        clicks = np.arange(1, 51) == rank
        assert calculate([1] * 50, scores, clicks)["map12"] == pytest.approx(expected)


def test_metrics_do_not_depend_on_row_order_or_batches() -> None:
    generator = np.random.default_rng(0)
    ids, scores, clicks = generator.integers(0, 40, 300), generator.integers(0, 4, 300) / 4, generator.random(300) < 0.3
    expected = calculate(ids, scores, clicks)
    order = generator.permutation(300)
    assert calculate(ids[order], scores[order], clicks[order], batch_size=7) == pytest.approx(expected)
    clicked_first = np.argsort(~clicks, kind="stable")
    same = calculate(ids[clicked_first], np.full(300, 0.5), clicks[clicked_first])
    assert same == pytest.approx(calculate(ids, np.full(300, 0.5), clicks))
    assert same["roc_auc"] == 0.5


@pytest.mark.parametrize("block_rows", [1, 7, 100])
def test_blocks_do_not_split_groups(monkeypatch: pytest.MonkeyPatch, block_rows: int) -> None:
    generator = np.random.default_rng(1)
    ids = np.repeat(np.arange(150), generator.integers(1, 30, 150))
    scores, clicks = generator.integers(0, 9, len(ids)) / 8, generator.random(len(ids)) < 0.2
    expected = calculate(ids, scores, clicks)
    monkeypatch.setattr(module, "_BLOCK_ROWS", block_rows)
    assert calculate(ids, scores, clicks) == pytest.approx(expected, rel=1e-12)


def test_metrics_need_less_than_twenty_bytes_per_row() -> None:
    def peak_bytes(rows: int) -> int:
        calculator = module.MetricsCalculator()
        generator = np.random.default_rng(0)
        for start in range(0, rows, 4096):
            ids, scores = np.arange(start, start + 4096) // 5, generator.random((4096, 1), np.float32)
            labels = (scores < 0.2).astype(np.int32)
            calculator.update(ids.astype(np.int32), {OUTPUT: scores}, None, {"clicked": labels})
        tracemalloc.start()
        assert math.isfinite(calculator.metrics["map12"])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    few, many = 1 << 19, 1 << 21
    assert (peak_bytes(many) - peak_bytes(few)) / (many - few) < 20


def test_undefined_metrics_are_nan() -> None:
    assert math.isnan(calculate([1, 1], [0.5, 0.6], [0, 0])["map12"])
    alone = calculate([1, 2, 3], [0.5, 0.6, 0.7], [0, 1, 0])  # each row a group of its own
    assert math.isnan(alone["map12"]) and alone["roc_auc"] == 0.5
    assert all(math.isnan(value) for value in calculate([1, 1], [0.5, float("nan")], [0, 1]).values())
    assert all(math.isnan(value) for value in module.MetricsCalculator().metrics.values())
    assert math.isfinite(calculate([1, 1], [0.0, 1.0], [1, 0])["log_loss"])


def test_missing_outputs_and_labels_are_refused() -> None:
    ids, one = np.zeros(2, np.int32), np.ones((2, 1), np.float32)
    calculator = module.MetricsCalculator(output_used_for_metrics="other")
    with pytest.raises(
        UsageError, match=r"--output-used-for-metrics other: there is no such output, there are \['y'\]"
    ):
        calculator.update(ids, {"y": one}, None, {"clicked": one})
    with pytest.raises(DataError, match="--dump-labels"):
        calculator.update(ids, {"other": one}, None, {})
    with pytest.raises(DataError, match="which of the labels"):
        calculator.update(ids, {"other": one}, None, {"a": one, "b": one})
    with pytest.raises(DataError, match="2 ids, 2 values of other and 1 labels"):
        calculator.update(ids, {"other": one}, None, {"clicked": one[:1]})
    calculator.update(ids, {"other": one}, None, {"a": one, "other": one})


def test_metrics_of_a_million_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    ids, scores = generator.permutation(1_000_000) // 5, generator.random(1_000_000)
    started = time.perf_counter()
    metrics = calculate(ids, scores, generator.random(1_000_000) < 0.2, batch_size=4096)
    assert time.perf_counter() - started < 5  # 0.4 s on two idle cores
    assert metrics["roc_auc"] == pytest.approx(0.5, abs=0.01)
