from __future__ import annotations

import threading
from collections.abc import Generator

import pytest

from deployment_toolkit.rows.prefetch import prefetched


def test_prefetch_reads_at_most_its_depth_ahead_and_closes_the_source() -> None:
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


def test_prefetch_raises_an_error_at_the_place_of_its_item() -> None:
    def source() -> Generator[int, None, None]:
        yield 1
        raise ValueError("the second one")

    items = prefetched(source())
    assert next(items) == 1
    with pytest.raises(ValueError, match="the second one"):
        next(items)
