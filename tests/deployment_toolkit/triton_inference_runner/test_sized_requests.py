from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.core import Batch
from deployment_toolkit.errors import InputError
from deployment_toolkit.triton_inference_runner.sized_requests import sized_requests

SIZES = st.lists(st.integers(1, 20), max_size=8)


def batches(lengths: list[int]) -> Iterator[Batch]:
    edges = np.cumsum([0, *lengths])
    for start, stop in itertools.pairwise(edges):
        ids = np.arange(start, stop)
        yield Batch(ids, {"a": ids[:, None] * 2, "b": np.stack([ids, -ids], axis=1)}, {"y": ids[:, None] % 2})


@settings(derandomize=True, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=10), sizes=SIZES)
def test_sized_requests_keep_rows_in_order_and_come_first(lengths: list[int], sizes: list[int]) -> None:
    sent = list(sized_requests(batches(lengths), sizes))
    ids = np.concatenate([np.zeros(0, int), *(batch.ids for batch, _ in sent)])
    assert ids.tolist() == list(range(sum(lengths)))
    for batch, _ in sent:
        assert len(batch) > 0
        assert (batch.x["a"][:, 0] == batch.ids * 2).all()
        assert (batch.x["b"] == np.stack([batch.ids, -batch.ids], axis=1)).all()
        assert (batch.y["y"][:, 0] == batch.ids % 2).all()
    left, expected = sum(lengths), []
    for size in sizes:
        if size <= left:
            expected.append(size)
            left -= size
    assert [len(batch) for batch, alone in sent if alone] == expected
    assert [alone for _, alone in sent] == [True] * len(expected) + [False] * (len(sent) - len(expected))


@settings(derandomize=True, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), max_size=10))
def test_batches_are_unchanged_without_sizes(lengths: list[int]) -> None:
    given_batches = list(batches(lengths))
    assert [batch for batch, _ in sized_requests(iter(given_batches), [])] == given_batches


def test_sized_requests_hold_at_most_a_batch_more_than_their_size() -> None:
    drawn = 0

    def counted() -> Iterator[Batch]:
        nonlocal drawn
        for batch in batches([10] * 20):
            drawn += len(batch)
            yield batch

    sent = 0
    for batch, _ in sized_requests(counted(), [1, 5, 25, 100]):
        sent += len(batch)
        assert drawn < sent + 10


def test_sizes_without_enough_rows_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    list(sized_requests(batches([8, 8]), [3, 20, 7, 9]))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("INFO", "rows 0 to 9 were asked in 2 requests, each alone, of [3, 7] rows"),
        ("WARNING", "the data have too few rows: the model was not asked in requests of [20, 9] rows"),
    ]
    caplog.clear()
    list(sized_requests(batches([8, 8]), []))
    assert not caplog.records


def test_rows_of_different_shapes_are_not_joined() -> None:
    widths = [Batch(np.arange(4), {"wide": np.ones((4, width))}) for width in (2, 3)]
    assert len(list(sized_requests(widths, [4, 4]))) == 2
    with pytest.raises(InputError, match="rows of several batches can't be sent in one request"):
        list(sized_requests(widths, [6]))
