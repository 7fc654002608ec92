"""Prefetching: a background thread works ahead of the consumer."""

from __future__ import annotations

import contextlib
import contextvars
import queue
import threading
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")

_POLL_S = 0.1


def prefetched(items: Generator[T, None, None], *, depth: int = 2) -> Generator[T, None, None]:
    """Yields the items of a generator; a thread makes at most ``depth`` of them ahead.

    An error of the generator is raised here, at its position. The thread has ended, and the generator is closed, when
    this iterator is exhausted, closed or dropped; the thread also ends with the program.
    """
    worker = _Worker(items, depth)
    try:
        while True:
            item = worker.get()
            if item is None:
                break
            yield item[0]
            del item  # keeps no reference to the consumer's last item
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
        context = contextvars.copy_context()  # as if the consumer's thread made the items
        self._thread = threading.Thread(target=context.run, args=(self._work,), name="prefetch")
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
        """Puts an item into the queue; False if the consumer has stopped. Waits in short turns, because a consumer that
        was abandoned when the program ended does not signal it."""
        while not self._stopping.is_set() and threading.main_thread().is_alive():
            with contextlib.suppress(queue.Full):
                self._queue.put(item, timeout=_POLL_S)
                return True
        return False
