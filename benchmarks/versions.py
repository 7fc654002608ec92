"""Compares two checkouts of this project: both serve a model at the same time and get requests by turns.

Run from the root of the newer checkout: ``python -m benchmarks.versions --before FOLDER --models fp32=FOLDER``, with
OpenVINO models from ``model-navigator convert``. On a shared machine, the speed of two successive runs depends more on
other users' load than on a change; requests by turns meet the same load. The older checkout serves the model twice: the
ratio of its two servers is the noise. Each start is three new servers, because the location of an engine's memory alone
changes the speed by some percent.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.checkout_servers import MODEL, CheckoutServer, serve
from benchmarks.cpp_models import add_to_repository, named_models
from deployment_toolkit.core import ModelSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.library.openvino.session import OpenVinoLoader
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.tables import write_csv
from deployment_toolkit.rows.sample import random_rows
from runner.serving import read_system_info

CSV_FILE, PAGE_FILE = "versions.csv", "versions.md"
BEFORE, AGAIN, NOW = "before", "before, once more", "now"
_HERE = Path(__file__).parent.parent
_LOADS = 3
_ROWS_IN_A_ROW = 8192  # so that the caches hold one server's data for most of its turn
_FEWEST_REQUESTS, _MOST_REQUESTS = 3, 60
_CONCURRENT = (64, 32)  # requests in flight, rows of each


@dataclass(frozen=True)
class VersionsOptions:
    """Options of the command."""

    before: Path = option("root of the older checkout")
    models: list[str] = option("NAME=FOLDER of each OpenVINO model", nargs="+", type=str)
    batch_sizes: list[int] = option("rows of the requests", [1, 32, 512, 4096], nargs="+", type=int)
    starts: int = option("times that the servers are started with each model", 3)
    seconds: float = option("seconds of requests to the three servers for each batch size", 15.0)
    output_dir: Path = option("folder of the results", Path("versions"))

    def __post_init__(self) -> None:
        named_models(self.models)
        if min(self.starts, *self.batch_sizes) < 1 or self.seconds <= 0:
            raise UsageError("--starts and --batch-sizes need whole numbers from 1 on, --seconds a number above 0")
        if not (self.before / "deployment_toolkit" / "triton_server" / "__main__.py").is_file():
            raise UsageError(f"--before {self.before}: no checkout of this project is there")


@dataclass(frozen=True)
class VersionMeasurement:
    """Median of a server in one start. ``what`` is the load, or requests in flight x rows of each. ``seconds`` is the
    time of a load, of a request, or of a row if many requests are in flight; ``speed`` is relative to the first server
    of the older checkout, the median over turns of the ratio."""

    model: str
    start: int
    what: str
    server: str
    seconds: float
    speed: float


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, VersionsOptions)
    options = from_args(VersionsOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    measured: list[VersionMeasurement] = []
    begun = datetime.now(UTC)
    models = named_models(options.models)
    rounds = [(name, start) for start in range(1, options.starts + 1) for name in models]
    with progress_bar("starts", len(rounds), " starts") as bar:
        for name, start in rounds:
            for row in _measure_start(name, models[name], start, options):
                measured.append(row)
                write_csv(options.output_dir / CSV_FILE, [vars(row) for row in measured])
            bar.update()
    made_by = shlex.join(["python", "-m", "benchmarks.versions", *argv])
    text = page(measured, f"{read_system_info().summary}; {begun:%Y-%m-%d %H:%M} UTC", made_by)
    write_text(options.output_dir / PAGE_FILE, text)
    print(text)


def page(measured: Sequence[VersionMeasurement], machine: str, command: str) -> str:
    """Markdown table of the medians over the starts."""
    lines = ["# Two versions, asked in turns", "", f"{machine}. Made by `{command}`", ""]
    lines += [
        "Requests under way x rows of each, over gRPC. Speed is relative to the older checkout, noise is the speed"
    ]
    lines += ["of a second server of it. Times are of a load, a request, or a row where many requests are under way."]
    lines += ["Medians over the starts, in brackets the lowest and the highest.", ""]
    lines += ["| model | what | speed now | noise | time before | time now |"]
    lines += ["| --- | --- | ---: | ---: | ---: | ---: |"]
    for model, what in dict.fromkeys((row.model, row.what) for row in measured):
        own = [row for row in measured if (row.model, row.what) == (model, what)]
        speeds = {server: [row.speed for row in own if row.server == server] for server in (NOW, AGAIN)}
        seconds = {server: [row.seconds for row in own if row.server == server] for server in (NOW, BEFORE)}
        ratios = [f"{statistics.median(of):.2f} ({min(of):.2f} to {max(of):.2f})" for of in speeds.values()]
        times = [_time(statistics.median(seconds[server])) for server in (BEFORE, NOW)]
        lines.append(f"| {model} | {what} | {' | '.join(ratios)} | {' | '.join(times)} |")
    return "\n".join([*lines, ""])


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _measure_start(name: str, model: Path, start: int, options: VersionsOptions) -> Iterator[VersionMeasurement]:
    spec = OpenVinoLoader().read_spec(model)
    order = random.Random(start)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        checkouts = {BEFORE: options.before, AGAIN: options.before, NOW: _HERE}
        sides: dict[str, CheckoutServer] = {}
        for server in order.sample(list(checkouts), len(checkouts)):
            served = Path(folder) / server.replace(" ", "_").replace(",", "")
            sides[server] = stack.enter_context(_serve(checkouts[server], model, spec, served, options))
        sides = {server: sides[server] for server in checkouts}

        def compare(
            what: str, take: Callable[[CheckoutServer], float], turns: int | None = None
        ) -> Iterator[VersionMeasurement]:
            taken: dict[str, list[float]] = {server: [] for server in sides}
            end = time.monotonic() + options.seconds
            while len(taken[NOW]) < (turns or 1) or (turns is None and time.monotonic() < end):
                for server in order.sample(list(sides), len(sides)):
                    taken[server].append(take(sides[server]))
            for server, values in taken.items():
                ratios = [first / own for first, own in zip(taken[BEFORE], values, strict=True)]
                yield VersionMeasurement(
                    name, start, what, server, statistics.median(values), statistics.median(ratios)
                )

        yield from compare("load", CheckoutServer.load_anew_s, _LOADS)
        for rows in options.batch_sizes:
            count = min(_MOST_REQUESTS, max(_FEWEST_REQUESTS, _ROWS_IN_A_ROW // rows))
            x = random_rows(spec, rows, seed=rows)
            yield from compare(f"1 x {rows}", functools.partial(CheckoutServer.request_s, x=x, count=count))
        concurrency, rows = _CONCURRENT
        x = random_rows(spec, rows, seed=rows)
        take = functools.partial(CheckoutServer.row_s, x=x, rows=rows, concurrency=concurrency)
        yield from compare(f"{concurrency} x {rows}", take)


@contextlib.contextmanager
def _serve(
    checkout: Path, model: Path, spec: ModelSpec, folder: Path, options: VersionsOptions
) -> Iterator[CheckoutServer]:
    """Yields a server of a checkout, with this interpreter's packages; the model is in its repository, not loaded."""
    repository = folder / "repository"
    add_to_repository(repository, MODEL, model, spec, max(*options.batch_sizes, _CONCURRENT[1]))
    with serve(checkout, Path(sys.executable), repository, folder, _CONCURRENT[0]) as server:
        yield server


if __name__ == "__main__":
    run_entry_point(main)
