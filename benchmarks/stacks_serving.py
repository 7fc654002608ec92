"""Servers of two checkouts over the same models: start, load, requests by turns, memory."""

from __future__ import annotations

import contextlib
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.checkout_servers import MODEL, CheckoutServer, serve
from benchmarks.cpp_models import add_to_repository, hosted_format
from deployment_toolkit.library.registry import read_spec
from deployment_toolkit.rows.sample import random_rows

START, LOAD, MEMORY = "server's start, s", "load of the model, s", "peak memory, MiB"
SIZES = (1, 1024)  # rows of the requests
_IN_FLIGHT = 8
_TURNS = 3
_REQUESTS = {1: 60, 1024: 8}  # in a turn
_LOADS = 2
_MAX_BATCH_SIZE = 4096
_MS = 1e3
_MIB = 2**20


@dataclass(frozen=True)
class ServingMeasurement:
    """Value of one server of a round: what ``what`` says, in its unit. Of requests it is the median of the turns."""

    model: str
    what: str
    round: int
    side: str
    value: float


def measure_serving(
    name: str, model: Path, checkouts: Mapping[str, Path], number: int, folder: Path
) -> Iterator[ServingMeasurement]:
    """Starts a server of each checkout with the packages of its ``.venv``, loads the model on the C++ host in both, and
    asks them by turns."""
    order = random.Random(number)
    spec = read_spec(hosted_format(model), model)
    sides: dict[str, CheckoutServer] = {}
    with contextlib.ExitStack() as stack:
        for side in order.sample(list(checkouts), len(checkouts)):
            own = folder / side
            add_to_repository(own / "repository", MODEL, model, spec, _MAX_BATCH_SIZE)
            python = checkouts[side] / ".venv" / "bin" / "python"
            sides[side] = stack.enter_context(serve(checkouts[side], python, own / "repository", own, _IN_FLIGHT))

        def by_turns(turns: int, take: Callable[[CheckoutServer], float]) -> dict[str, float]:
            taken: dict[str, list[float]] = {side: [] for side in checkouts}
            for _ in range(turns):
                for side in order.sample(list(checkouts), len(checkouts)):
                    taken[side].append(take(sides[side]))
            return {side: statistics.median(values) for side, values in taken.items()}

        found = {START: {side: sides[side].start_s for side in checkouts}}
        found[LOAD] = by_turns(_LOADS, CheckoutServer.load_anew_s)
        for rows in SIZES:
            x = random_rows(spec, rows, seed=rows)
            alone = by_turns(_TURNS, partial(CheckoutServer.request_s, x=x, count=_REQUESTS[rows]))
            together = by_turns(_TURNS, partial(CheckoutServer.row_s, x=x, rows=rows, concurrency=_IN_FLIGHT))
            found[f"1 × {rows:,}: p50, ms"] = {side: value * _MS for side, value in alone.items()}
            found[f"{_IN_FLIGHT} × {rows:,}: rows/s"] = {side: 1 / value for side, value in together.items()}
        found[MEMORY] = {side: sides[side].peak_bytes() / _MIB for side in checkouts}
    for what, values in found.items():
        for side, value in values.items():
            yield ServingMeasurement(name, what, number, side, value)


def serving_table(measured: Sequence[ServingMeasurement], before: str, now: str) -> list[str]:
    """Lines of a Markdown table of the medians over the rounds; none if nothing was measured."""
    if not measured:
        return []
    lines = ["## Serving", ""]
    lines += [
        "Both servers are up and are asked by turns, over gRPC: requests in flight × rows of each. Memory is the peak"
    ]
    lines += ["of the server's largest process after that.", ""]
    lines += ["| model | what | before | now | now / before |", "| --- | --- | ---: | ---: | ---: |"]
    for model, what in dict.fromkeys((row.model, row.what) for row in measured):
        sides = [
            [row.value for row in measured if (row.model, row.what, row.side) == (model, what, side)]
            for side in (before, now)
        ]
        medians = " | ".join(_number(statistics.median(side)) for side in sides)
        ratios = [after / first for first, after in zip(*sides, strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        lines.append(f"| {model} | {what} | {medians} | {ratio} |")
    return [*lines, ""]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
