"""Starts the server many times on busy cores, sends each requests of many sizes, and counts wrong answers.

Run from the repository's root: ``python -m benchmarks.starts --models fp32=PATH int8=PATH``, with models of any format
that the C++ host runs. Each start is a separate server process, in which the C++ host loads the model. Starts
of earlier calls in the output folder are kept: some thousand starts can be made in several calls.
"""

from __future__ import annotations

import contextlib
import logging
import shlex
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.cpp_models import TOLERANCES, add_to_repository, arithmetic_of, hosted_format, named_models
from deployment_toolkit.core import Array, Arrays, Batch
from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.errors import DeploymentError, UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.library.registry import loader
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.process import child
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.results.tables import read_records, write_csv
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.serving import read_system_info

logger = logging.getLogger("starts")

CSV_FILE, PAGE_FILE = "starts.csv", "starts.md"
_TIMEOUT_S = 300.0

_KEEP_A_CORE_BUSY = "while True: pass"


@dataclass(frozen=True)
class StartsOptions:
    """Options of the command."""

    models: list[str] = option(
        "NAME=PATH of each model: a SavedModel, an ONNX file or an OpenVINO folder", nargs="+", type=str
    )
    starts: int = option("starts with each model, in this call", 100)
    sizes: list[int] = option("rows of the batches", [1, 8, 32, 64, 96, 256, 512, 1024, 4096], nargs="+", type=int)
    together: bool = option("each server loads all models, one after the other in a random order", False)
    servers: int = option("servers at a time", 2)
    busy: int | None = option("processes that do nothing but keep a core busy; default: one for each core", None)
    seed: int = option("of rows and orders", 1)
    output_dir: Path = option("folder of the results", Path("starts"))

    def __post_init__(self) -> None:
        named_models(self.models)
        if min(self.starts, self.servers, *self.sizes) < 1:
            raise UsageError("--starts, --servers and --sizes need whole numbers from 1 on")


@dataclass(frozen=True)
class Start:
    """Result of a start. ``wrong`` counts the batches with a wrong row, ``largest_difference`` is over all rows; a
    failed start has an ``error`` and no batches."""

    model: str
    number: int
    date: str
    protocol: str
    order: str
    batches: int
    wrong: int
    largest_difference: float
    load_s: float
    error: str


@dataclass(frozen=True)
class Subject:
    """A model in a repository, rows, and the answers of the engine in this process to all rows at once."""

    name: str
    repository: Path
    tolerance: float
    rows: Arrays
    expected: Arrays


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, StartsOptions)
    options = from_args(StartsOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    build_library()  # once, before several servers need it at the same time
    done = read_records(options.output_dir / CSV_FILE, Start)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        subjects = [
            _prepare(name, model, Path(folder) / "models", options)
            for name, model in named_models(options.models).items()
        ]
        busy = usable_cores() if options.busy is None else options.busy
        for number in range(busy):
            command = [sys.executable, "-c", _KEEP_A_CORE_BUSY]
            stack.enter_context(child(command, stdout=Path(folder) / f"busy_{number}"))
        _do(_plan(subjects, done, options), done, options, Path(folder))
    made_by = shlex.join(["python", "-m", "benchmarks.starts", *argv])
    load = f"{options.servers} servers at a time, {busy} processes beside them that keep a core busy each"
    text = page(done, f"{read_system_info().summary}; {load}", made_by)
    write_text(options.output_dir / PAGE_FILE, text)
    print(text)
    return int(any(start.wrong or start.error for start in done))


def _do(jobs: Sequence[tuple[Sequence[Subject], int]], done: list[Start], options: StartsOptions, folder: Path) -> None:
    """Runs the starts and adds each to ``done`` and to the CSV when it ends. An interrupt cancels the starts that have
    not begun."""
    with ThreadPoolExecutor(options.servers) as pool, progress_bar("starts", len(jobs), " starts") as bar:
        under_way = [pool.submit(_start, subjects, number, options, folder) for subjects, number in jobs]
        try:
            for future in as_completed(under_way):
                done.extend(future.result())
                write_csv(options.output_dir / CSV_FILE, [asdict(start) for start in done])
                bar.update()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def page(starts: Sequence[Start], machine: str, command: str) -> str:
    """Markdown table of all starts."""
    dates = [start.date for start in starts]
    lines = ["# Starts of the server", "", f"{machine}; {min(dates)} to {max(dates)} UTC.", f"Made by `{command}`", ""]
    lines += [
        "| model | starts | batches | wrong batches | failed starts | largest difference | load, s: median, longest |"
    ]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for name in dict.fromkeys(start.model for start in starts):
        own = [start for start in starts if start.model == name]
        loads = [start.load_s for start in own if not start.error] or [0.0]
        lines.append(
            f"| {name} | {len(own):,} | {sum(start.batches for start in own):,} | {sum(start.wrong for start in own)} "
            f"| {sum(bool(start.error) for start in own)} | {max(start.largest_difference for start in own):.2g} "
            f"| {statistics.median(loads):.1f}, {max(loads):.1f} |"
        )
    failed = [f"- {start.model}, start {start.number}: {start.error}" for start in starts if start.error]
    return "\n".join([*lines, *(["", *failed] if failed else []), ""])


def _prepare(name: str, model: Path, folder: Path, options: StartsOptions) -> Subject:
    session = loader(hosted_format(model))().load(model)
    rows = random_rows(session.spec, max(options.sizes), options.seed)
    repository = folder if options.together else folder / name
    add_to_repository(repository, name, model, session.spec, max(options.sizes))
    return Subject(name, repository, TOLERANCES[arithmetic_of(model)], rows, session.infer(rows))


def _plan(
    subjects: Sequence[Subject], done: Sequence[Start], options: StartsOptions
) -> list[tuple[Sequence[Subject], int]]:
    """Starts to make: the models by turns or together, numbered after the earlier starts."""
    first = {subject.name: 1 + sum(start.model == subject.name for start in done) for subject in subjects}
    groups = [subjects] if options.together else [[subject] for subject in subjects]
    return [(group, first[group[0].name] + index) for index in range(options.starts) for group in groups]


def _start(subjects: Sequence[Subject], number: int, options: StartsOptions, folder: Path) -> list[Start]:
    """Runs a server from its start to its end. Orders and protocol don't depend on the division into calls."""
    random = np.random.default_rng([options.seed, number])
    protocol = ("grpc", "http")[number % 2]
    log = folder / f"{threading.get_ident()}.log"
    log.unlink(missing_ok=True)
    starts: list[Start] = []
    missing = [subjects[index] for index in random.permutation(len(subjects))]
    try:
        with local_server(subjects[0].repository, log_path=log, timeout_s=_TIMEOUT_S) as server:
            while missing:
                order = [int(size) for size in random.permutation(options.sizes)]
                starts.append(_load_and_ask(server, protocol, missing[0], number, order))
                missing.pop(0)
    except DeploymentError as failure:
        kept = options.output_dir / f"{(missing or subjects)[0].name}_{number}.log"
        if log.exists():
            kept.write_bytes(log.read_bytes())
        error = f"{' '.join(str(failure).split())} (log: {kept.name})"
        for subject in missing or subjects:
            logger.error("%s, start %d: %s", subject.name, number, error)
            starts.append(Start(subject.name, number, _now(), protocol, "", 0, 0, 0.0, 0.0, error))
    return starts


def _load_and_ask(server: TritonServer, protocol: str, subject: Subject, number: int, order: Sequence[int]) -> Start:
    started, begun = _now(), time.monotonic()
    server.load_model(subject.name, _TIMEOUT_S)
    load_s = time.monotonic() - begun
    differences = list(_ask(server, protocol, subject, order))
    wrong = [size for size, difference in zip(order, differences, strict=True) if not difference <= subject.tolerance]
    for size in wrong:
        logger.error("%s, start %d: %d rows were answered wrong", subject.name, number, size)
    return Start(
        model=subject.name,
        number=number,
        date=started,
        protocol=protocol,
        order=" ".join(map(str, order)),
        batches=len(differences),
        wrong=len(wrong),
        largest_difference=max(differences),
        load_s=round(load_s, 3),
        error="",
    )


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _ask(server: TritonServer, protocol: str, subject: Subject, order: Sequence[int]) -> Iterator[float]:
    """Sends each size alone; yields the largest difference from the expected answers."""
    url = server.grpc_url if protocol == "grpc" else server.http_url
    with open_session(
        url, subject.name, "1", synchronous=True, max_unresponded_requests=1, response_wait_time_s=_TIMEOUT_S
    ) as session:
        for size in order:
            batch = Batch(np.arange(size), {name: array[:size] for name, array in subject.rows.items()})
            (prediction,) = session.predict([batch])
            yield max(_difference(prediction.y_pred[name], subject.expected[name][:size]) for name in subject.expected)


def _difference(answer: Array, expected: Array) -> float:
    return float(np.abs(answer - expected).max())


if __name__ == "__main__":
    run_entry_point(main)
