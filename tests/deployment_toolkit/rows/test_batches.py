from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deployment_toolkit.rows.batches import exact_batches


@given(sizes=st.lists(st.integers(0, 9), max_size=8), batch_size=st.integers(1, 12))
def test_exact_batches_keep_rows_in_order_and_only_the_last_is_short(sizes: list[int], batch_size: int) -> None:
    rows = np.arange(sum(sizes))
    edges = np.cumsum([0, *sizes])
    chunks = [{"a": rows[i:j], "b": rows[i:j, None] * 2} for i, j in itertools.pairwise(edges)]
    batches = list(exact_batches(iter(chunks), batch_size))
    lengths = [len(batch["a"]) for batch in batches]
    assert lengths == [batch_size] * (len(rows) // batch_size) + [len(rows) % batch_size] * (len(rows) % batch_size > 0)
    if batches:
        assert np.concatenate([batch["a"] for batch in batches]).tolist() == rows.tolist()
        assert np.concatenate([batch["b"] for batch in batches])[:, 0].tolist() == (rows * 2).tolist()
