"""Steps of preprocessing: tasks that don't need each other, one step after the other."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from deployment_toolkit.errors import DataError, host_problem
from deployment_toolkit.progress import progress_bar
from widedeep.preprocessing.tasks.layout import Layout

LOGGER = logging.getLogger("preprocessing")

_SILENT_S = 2.0


class FaultyDataError(DataError):
    """The raw files are at fault, not the host: the same work would fail again."""


@contextlib.contextmanager
def faults_of_data() -> Iterator[None]:
    """Makes FaultyDataError of a DataError that the host did not cause: a full disk, or a folder that is not mounted
    there."""
    try:
        yield
    except DataError as error:
        cause: BaseException | None = error
        while cause is not None:
            # Errors of a file's content, such as those of gzip, have no number.
            if isinstance(cause, OSError) and (cause.errno is not None or host_problem(cause) is not None):
                raise
            cause = cause.__cause__
        raise FaultyDataError(str(error)) from error


class Steps:
    """Runs the tasks of a step in this process, one after the other."""

    def __init__(self, layout: Layout | None = None) -> None:
        self.layout = layout or Layout()

    def run(
        self,
        step: str,
        function: Callable[..., Any],
        tasks: Mapping[str, tuple[Any, ...]],
        weights: Mapping[str, int] | None = None,
        unit: str = " task",
        made: Mapping[str, Path] | None = None,
    ) -> dict[str, Any]:
        """Calls ``function`` with the arguments of each task and returns the results by the tasks' keys, which JSON can
        hold. The bar shows the tasks' weights, by default their number. ``made`` names the tasks' files, without which
        they are not done."""
        results: dict[str, Any] = {}
        with shown_step(step, tasks, weights, unit) as bar:
            for key, args in tasks.items():
                results[key] = function(*args)
                bar.update(weights[key] if weights else 1)
        return results

    def no_longer_needed(self, path: Path) -> None:
        """Removes a folder of a step that no later one reads. What a worker still reads may stay until the end."""
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def shown_step(step: str, tasks: Mapping[str, Any], weights: Mapping[str, int] | None, unit: str) -> Iterator[tqdm]:
    """Yields a bar over the tasks of a step, shown if it takes a while, and logs how long the step took."""
    started = time.monotonic()
    total = sum(weights.values()) if weights else len(tasks)
    with progress_bar(step, total, unit, delay_s=_SILENT_S) as bar:
        yield bar
    LOGGER.info("%s done in %.1f s", step, time.monotonic() - started)
