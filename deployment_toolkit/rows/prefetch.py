"""Lets a background thread work ahead of the one that consumes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1


def prefetched(items: Generator[T, None, None], *, depth: int = 2) -> Iterator[T]:
    """The items of a generator, at most ``depth`` of them made ahead by a thread.

    What the generator raises is raised here, in its place. The thread is gone, and the generator closed, when this
    iterator is exhausted, closed or dropped; it also ends when the program does.
    """
    worker = _Worker(items, depth)
    try:
        while True:
            item = worker.get()
            if item is None:
                break
            yield item[0]
            del item  # or the consumer's last item would outlive its turn here
    finally:
        worker.stop()
    if worker.error is not None:
        raise worker.error


class _Worker(Generic[T]):
    """The thread and its queue of one-tuples; None marks the end."""

    def __init__(self, items: Generator[T, None, None], depth: int) -> None:
        self.error: BaseException | None = None
        self._items = items
        self._queue: queue.Queue[tuple[T] | None] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="prefetch")
        self._thread.start()

    def get(self) -> tuple[T] | None:
        return self._queue.get()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            with contextlib.closing(self._items):
                for item in self._items:
                    if not self._put((item,)):
                        return
        except BaseException as error:
            self.error = error  # raised in the consumer's thread
        self._put(None)

    def _put(self, item: tuple[T] | None) -> bool:
        """False if nobody wants it any more. Waits in turns, because a consumer that was left half-way when the
        program ended never says so."""
        while not self._stopping.is_set() and threading.main_thread().is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return True
        return False
