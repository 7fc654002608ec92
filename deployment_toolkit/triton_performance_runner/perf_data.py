"""Rows that perf_analyzer sends.

perf_analyzer takes "steps" of one row each from a JSON file (format: its documentation, "Input Data") and joins
consecutive steps to a request: request k of a sweep with batch B and N steps holds the steps k*B, k*B+1, … k*B+B-1,
each modulo N. Preparing them costs N * B copies per input, per client thread or, with shared memory, per region, and
two requests to the server per region; tens of seconds for a few hundred steps of a large batch. Over HTTP each of those
requests opens a new connection, whose port is blocked for a minute after: a sweep over many regions runs out of ports.
So the number of steps depends on the batch, and offline on the protocol too. A request can't have more distinct rows
than there are steps; with system shared memory ``fill_regions`` gives each request B distinct rows.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deployment_toolkit.core import Array, Arrays, DataloaderFn, EvaluationMode, ModelSpec
from deployment_toolkit.errors import PerformanceError, UsageError
from deployment_toolkit.machine import SHARED_MEMORY
from deployment_toolkit.packing import pack
from deployment_toolkit.process import Child
from deployment_toolkit.rows.sample import first_rows, random_rows
from deployment_toolkit.server_access.url import Scheme
from deployment_toolkit.triton_performance_runner.options import RANDOM_DATA, LoadPoint, OfflineMode, PerformanceOptions
from deployment_toolkit.triton_performance_runner.program import INSTALL
from deployment_toolkit.triton_performance_runner.shared_memory import region_name

Watch = Callable[[Child], None]

_SEED = 2051
_MAX_ROWS = 131072  # rows of a dataset that are kept
_INITIALISED = "*** Measurement Settings ***"  # printed once every region is registered and written
_MAX_STEPS = 512
_MAX_COPIES = 160_000  # of one input: about a second for 30 inputs
_REGION_STEPS = (61, 31, 23, 13, 7, 3)  # primes: request k uses region k*B modulo N, which then visits all of them
_MAX_REGIONS = {Scheme.GRPC: 700, Scheme.HTTP: 400}  # one file each; a process may usually open 1024
_MAX_REGION_ROWS = 32768
_END_S = 2.0
_OWN_REQUESTS = 64


class InputData:
    """Value of perf_analyzer's ``--input-data`` for each point: rows, or the value of the user's option."""

    def __init__(
        self, options: PerformanceOptions, spec: ModelSpec, scheme: Scheme, dataloader_fn: DataloaderFn | None
    ) -> None:
        """Raises UsageError if random rows can't be made inside the model's value ranges, InputError if the rows of the
        dataset don't fit the model, DataError if there are none."""
        self._spec = spec
        self._max_steps = _MAX_REGIONS[scheme] // len(spec.inputs)
        self._shares_memory = (
            options.evaluation_mode is EvaluationMode.OFFLINE and options.offline_mode is OfflineMode.SYSTEM
        )
        self._argument = options.input_data
        self._rows: Arrays | None = None
        if dataloader_fn is not None:
            self._rows = dataset_rows(dataloader_fn, spec, self._rows_needed(options))
        elif options.input_data == RANDOM_DATA:
            require_known_values(spec)
            self._rows = random_rows(spec, self._rows_needed(options), _SEED)

    def prepare(self, point: LoadPoint, threads: int, folder: Path, owner: int) -> tuple[str, Watch | None]:
        """Argument for perf_analyzer, which runs as the user ``owner``, and a watcher of the run or None. Files are
        written to ``folder``."""
        if self._rows is None:
            return self._argument, None
        path = folder / "input_data.json"
        steps = self._steps(point, threads)
        write_steps(path, self._rows, steps)
        fill = self._shares_memory and point.batch > 1
        return str(path), fill_regions(self._rows, self._spec, point.batch, steps, owner) if fill else None

    def requests(self, point: LoadPoint) -> list[Arrays]:
        """Different requests of a point, for a client that makes its own. Raises PerformanceError if the user's option
        gives other data."""
        if self._rows is None:
            raise PerformanceError(
                f"the server refuses requests of {point}, and this project's own client, which measures such a point, "
                f"sends random rows or a dataloader's: leave --input-data {self._argument} out"
            )
        rows, batch = self._rows, point.batch
        count = min(_OWN_REQUESTS, max(1, len(next(iter(rows.values()))) // batch))
        return [
            {
                name: array.take(range(number * batch, (number + 1) * batch), axis=0, mode="wrap")
                for name, array in rows.items()
            }
            for number in range(count)
        ]

    def _rows_needed(self, options: PerformanceOptions) -> int:
        rows_a_step = [point.batch if self._shares_memory else 1 for point in options.points]
        steps = [self._steps(point, 1) for point in options.points]
        return min(_MAX_ROWS, max(rows * count for rows, count in zip(rows_a_step, steps, strict=True)))

    def _steps(self, point: LoadPoint, threads: int) -> int:
        return (
            region_steps(point.batch, self._max_steps) if self._shares_memory else request_steps(point.batch, threads)
        )


def require_known_values(spec: ModelSpec) -> None:
    """Raises UsageError if random rows can't be made inside the model's value ranges."""
    for tensor in spec.unpacked.inputs:
        kind = np.dtype(tensor.dtype).kind
        if kind not in "biuf" or (kind in "iu" and tensor.value_range is None):
            raise UsageError(
                f"--input-data random: the server does not say which values input {tensor.name} ({tensor.dtype}) "
                "takes; give --dataloader, --input-data FILE, or --model-repository with a model that has them"
            )


def dataset_rows(dataloader_fn: DataloaderFn, spec: ModelSpec, rows: int) -> Arrays:
    """The first ``rows`` rows of a dataset, fewer if it has fewer, as inputs of the model. Raises InputError if they
    don't fit the model, DataError if there are none."""
    own = spec.unpacked
    names = {tensor.name for tensor in own.inputs}
    first = {name: array for name, array in first_rows(dataloader_fn, rows).items() if name in names}
    own.check_inputs(first)
    return pack(first, spec)


def request_steps(batch: int, threads: int) -> int:
    """Number of steps for a client that copies every request in each of its threads."""
    return max(1, min(_MAX_STEPS, _MAX_COPIES // (batch * threads)))


def region_steps(batch: int, most: int) -> int:
    """Number of steps, at most ``most``, for a client that shares a region per step with the server; each step becomes
    another request."""
    fitting = (steps for steps in _REGION_STEPS if steps <= most and steps * batch <= _MAX_REGION_ROWS)
    suitable = (steps for steps in fitting if batch % steps)
    return next(suitable, 1)


def write_steps(path: Path, rows: Arrays, steps: int) -> None:
    """Writes perf_analyzer's JSON of the first ``steps`` rows, from the start again if there are fewer."""
    count = len(next(iter(rows.values())))
    flat = {name: array.reshape(count, -1).tolist() for name, array in rows.items()}
    data = [{name: flat[name][step % count] for name in rows} for step in range(steps)]
    path.write_text(json.dumps({"data": data}))


def fill_regions(rows: Arrays, spec: ModelSpec, batch: int, steps: int, owner: int) -> Watch:
    """Watcher of ``owner``'s perf_analyzer with system shared memory: when the regions are set up, it writes other
    ``batch`` consecutive rows into each. The first requests may still hold the rows of the steps. Strings stay those of
    the steps, because their size differs from row to row.

    The watcher raises PerformanceError if the regions differ from those of perf_analyzer 2.51 and 2.60.
    """
    done = False

    def fill(process: Child) -> None:
        nonlocal done
        if done or _INITIALISED not in process.output()[0]:
            return
        done = True
        for tensor in (item for item in spec.inputs if item.dtype != "object"):
            for step in range(steps):
                part = rows[tensor.name].take(range(step * batch, (step + 1) * batch), axis=0, mode="wrap")
                region = SHARED_MEMORY / f"{region_name(tensor.name)}_0_{step}"
                if not overwrite(region, part, owner) and process.wait(_END_S) is None:  # its end removes the regions
                    raise PerformanceError(
                        f"{region} is not there, or not of {part.nbytes} bytes and user {owner}: this perf_analyzer "
                        f"shares memory otherwise than 2.51 and 2.60 do; {INSTALL}"
                    )

    return fill


def overwrite(region: Path, part: Array, owner: int) -> bool:
    """Writes the rows into a region; False if there is no such region of this size and user."""
    with contextlib.suppress(FileNotFoundError), open(region, "r+b", opener=_not_through_a_link) as file:
        found = os.fstat(file.fileno())
        if (found.st_size, found.st_uid) == (part.nbytes, owner):
            file.write(np.ascontiguousarray(part).tobytes())
            return True
    return False


def _not_through_a_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
