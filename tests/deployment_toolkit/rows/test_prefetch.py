from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from deployment_toolkit.rows.prefetch import prefetched


def test_works_ahead_by_no_more_than_its_depth_and_closes_the_source() -> None:
    made: list[int] = []
    closed = threading.Event()

    def source() -> Generator[int, None, None]:
        try:
            for number in range(100):
                made.append(number)
                yield number
        finally:
            closed.set()

    items = prefetched(source(), depth=2)
    assert next(items) == 0
    items.close()  # type: ignore[attr-defined]
    assert closed.is_set()
    assert len(made) <= 4  # the one taken, two waiting, one in hand
    assert list(prefetched(source(), depth=2)) == list(range(100))


def test_an_error_is_raised_where_its_item_would_be() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise ValueError("the second one")

    items = prefetched(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second one"):
        next(items)
