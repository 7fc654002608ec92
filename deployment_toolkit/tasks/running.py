"""Independent tasks: what one is, what runs them, and the simplest runner, this process."""

from __future__ import annotations

import concurrent.futures
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_LOOK_S = 1.0
_wanted = threading.local()


class TaskGivenUpError(Exception):
    """Nobody waits for the result of this task any more."""


def require_wanted() -> None:
    """For long tasks, to be called now and then: raises TaskGivenUpError in a thread whose task has been given up."""
    given_up: threading.Event | None = getattr(_wanted, "given_up", None)
    if given_up is not None and given_up.is_set():
        raise TaskGivenUpError


@dataclass(frozen=True)
class ClusterTask:
    """Arguments of one call; ``key`` is its name in results, in the log and for people, the same for no other."""

    key: str
    args: tuple[Any, ...]


class Cluster(ABC):
    """A place where tasks run."""

    @abstractmethod
    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Generator[tuple[str, Any], None, None]:
        """Yields (key, result) of each task as it ends, in any order, and keeps neither. Tasks are taken from the
        iterable as workers need them. Tasks that are under way when the generator is closed are given up: those that
        a worker has begun may still end.

        Raises what a task raises: its DeploymentError, or DataError for a problem of its host such as a full disk,
        with the host's name if it is another one; ClusterError if the scheduler or all workers are gone for too long,
        or if a task has lost more workers than are allowed.
        """


class ThisProcess(Cluster):
    """Tasks run in this process, ``at_once`` of them at the same time, in threads."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once

    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Generator[tuple[str, Any], None, None]:
        if self._at_once == 1:
            for task in tasks:
                yield task.key, function(*task.args)
            return
        pending = iter(tasks)
        given_up = threading.Event()
        set_up = (setattr, (_wanted, "given_up", given_up))
        with concurrent.futures.ThreadPoolExecutor(self._at_once, "task", *set_up) as pool:
            running: dict[concurrent.futures.Future[Any], str] = {}
            try:
                while True:
                    for task in first_tasks(pending, self._at_once - len(running)):
                        running[pool.submit(function, *task.args)] = task.key
                    if not running:
                        return
                    # In short turns: an interrupt can't end a wait without a limit.
                    done, _ = concurrent.futures.wait(running, _LOOK_S, concurrent.futures.FIRST_COMPLETED)
                    for future in done:
                        yield running.pop(future), future.result()
            finally:
                given_up.set()
                for future in running:
                    future.cancel()


def first_tasks(tasks: Iterator[ClusterTask], count: int) -> Iterator[ClusterTask]:
    """The next ``count`` tasks, or those that are left."""
    for _ in range(count):
        task = next(tasks, None)
        if task is None:
            return
        yield task
