"""What a worker does: the rows of a part through the model into the part's file."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from deployment_toolkit.bulk_scoring.bad_rows import BadRows
from deployment_toolkit.bulk_scoring.options import ScoringOptions
from deployment_toolkit.bulk_scoring.origin import engine_versions, file_fingerprint, option_files, stored_model
from deployment_toolkit.bulk_scoring.parts import new_part
from deployment_toolkit.bulk_scoring.plan import ScoringPlan, read_plan
from deployment_toolkit.bulk_scoring.servers import ServedModel, ServerPool, known_spec
from deployment_toolkit.bulk_scoring.sources import row_source
from deployment_toolkit.core import Batch, Format, ModelSpec, Prediction
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.library import registry
from deployment_toolkit.options.command_line import DATALOADER, MODEL, CommandLine, EnumText
from deployment_toolkit.rows.dump_files import PLAN_FILE
from deployment_toolkit.rows.dump_parts import REJECTED_FOLDER, part_name
from deployment_toolkit.rows.prefetch import prefetched
from deployment_toolkit.sameness.command import Origin
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.tasks.running import require_wanted


@dataclass(frozen=True)
class ScoringJob:
    """A command for workers: ``values`` are those of its options, ``plan_id`` is the plan that they belong to."""

    values: dict[str, Any]
    plan_id: str


@dataclass(frozen=True)
class PartResult:
    """Numbers of rows of a part that were scored and rejected."""

    scored: int
    rejected: int


def score_part(job: ScoringJob, number: int) -> PartResult:
    """Scores one part. The model is loaded, and the plan read, by the first call in a process. Raises DataError if this
    host sees other data than those of the plan, ModelError for another model or another version of an engine, and what
    the dataloader and the model raise."""
    return _scorer(job).score(number)


def served_model_of(command: CommandLine) -> ServedModel:
    """The model on the servers that a command names."""
    options = command.get(ScoringOptions)
    access = command.get(AccessOptions)
    return ServedModel(
        urls=tuple(access.url(url) for url in options.server_url),
        name=str(options.model_name),
        version=options.model_version,
        window=options.max_unresponded_requests,
        response_wait_s=options.response_wait_time,
        patience_s=options.server_patience,
    )


_Predictions = Generator[Prediction, None, None]


class _Model(Protocol):
    spec: ModelSpec

    def predict(self, batches: Iterator[Batch], number: int) -> _Predictions: ...


class _Engine:
    """The model in this process; parts take turns."""

    def __init__(self, command: CommandLine, plan: ScoringPlan) -> None:
        options = command.get(ScoringOptions)
        if options.input_path is None or options.input_type is None:
            raise ModelError("there is no --input-path")
        if stored_model(options.input_path) != plan.origin["model"]:
            raise ModelError(f"{options.input_path} is not the model of the plan here: copy it to this host")
        versions = engine_versions()
        other = sorted(name for name, version in plan.origin["versions"].items() if versions.get(name) != version)
        if other:
            found = ", ".join(f"{name} {versions.get(name, 'missing')}" for name in other)
            raise ModelError(f"this host has other engines than those of the plan ({found}): use one environment")
        self._session = command.make(registry.loader(options.input_type)).load(options.input_path)
        self._lock = threading.Lock()
        self.spec: ModelSpec = self._session.spec

    def predict(self, batches: Iterator[Batch], number: int) -> _Predictions:
        with self._lock:
            yield from self._session.predict(batches)


class _Servers:
    """The model on servers; each part begins with another one."""

    def __init__(self, command: CommandLine) -> None:
        model = served_model_of(command)
        self._pool = ServerPool(model, known_spec(model))
        self.spec = self._pool.spec

    def predict(self, batches: Iterator[Batch], number: int) -> _Predictions:
        return self._pool.predict(batches, number)


class _Scorer:
    def __init__(self, job: ScoringJob) -> None:
        plugins = [DATALOADER]
        if job.values["input_type"] == EnumText(Format.TF_KERAS.value):
            plugins.append(MODEL)
        command = CommandLine.from_values(job.values, [ScoringOptions, AccessOptions], plugins)
        self._options = command.get(ScoringOptions)
        self._folder = self._options.output_dir
        self._plan = _plan_of(self._folder, job.plan_id)
        files = Origin(option_files(job.values)).changed(self._plan.origin["files of options"])
        if files:
            path = job.values.get(files[0])
            raise DataError(f"{path} is not the file of the plan here: it was changed, or this host has another one")
        self._source = row_source(command)
        self._model: _Model = _Servers(command) if self._options.server_url else _Engine(command, self._plan)

    def score(self, number: int) -> PartResult:
        rows = self._plan.parts[number]
        self._require_data(rows)
        _plan_of(self._folder, self._plan.id)
        bad = BadRows(self._plan, self._options.max_bad_rows)
        name = part_name(number)
        part = new_part(self._folder / f"{name}.parquet", ids_name=self._source.ids_name, inputs=self._options.columns)
        numbers: deque[Any] = deque()
        with part as writer:
            # Three threads: one reads and checks, one asks the engine, this one writes, so that the engine never waits.
            with contextlib.closing(prefetched(self._predictions(rows, number, bad, numbers))) as predictions:
                for prediction in predictions:
                    require_wanted()
                    writer.write(*bad.without_unanswered(numbers.popleft(), prediction))
            told = f"rows {rows.start} to {rows.stop - 1} of the data"
            if len(bad) == len(rows):
                raise DataError(f"none of {told} can be scored: check the data and the model")
            bad.write(self._folder / REJECTED_FOLDER / f"{name}.csv")
            writer.finish(self._plan.id, len(bad))
            if writer.rows + len(bad) != len(rows):
                raise DataError(f"of {told} the dataloader gave {writer.rows + len(bad)}: check it and the data")
            _plan_of(self._folder, self._plan.id)  # again: a task that nobody waits for any more may end late
        return PartResult(writer.rows, len(bad))

    def _predictions(self, rows: range, number: int, bad: BadRows, numbers: deque[Any]) -> _Predictions:
        """Predictions of the rows that can be scored; ``numbers`` gets the rows of each, in the same order."""

        def batches() -> Generator[Batch, None, None]:
            for row_numbers, batch in self._source.read(rows, bad.add if bad.most else None):
                kept, good = bad.without_refused(row_numbers, batch, self._model.spec)
                if len(kept):
                    numbers.append(kept)
                    yield good

        with (
            contextlib.closing(prefetched(batches())) as source,
            contextlib.closing(self._model.predict(source, number)) as predictions,
        ):
            yield from predictions

    def _require_data(self, rows: range) -> None:
        wanted = {name: mark for name, mark, _ in self._plan.origin["data"][1]}
        for name in self._plan.files_of(rows):
            if file_fingerprint(Path(name)) != wanted[name]:
                raise DataError(f"{name} is not the file of the plan: it was changed, or this host has another one")


def _plan_of(folder: Path, plan_id: str) -> ScoringPlan:
    plan = read_plan(folder)
    if plan is None:
        raise DataError(f"this host sees no {folder / PLAN_FILE}: all workers need the folder, by the same path")
    if plan.id != plan_id:
        raise DataError(f"{folder} has another plan by now: another command has begun anew there")
    return plan


class _LastScorer:
    """The scorer of the job that this process works for; the model of an earlier one is dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: tuple[ScoringJob, _Scorer] | None = None

    def of(self, job: ScoringJob) -> _Scorer:
        with self._lock:
            if self._made is None or self._made[0] != job:
                self._made = None
                self._made = (job, _Scorer(job))
            return self._made[1]


@functools.cache
def _last() -> _LastScorer:
    return _LastScorer()


def _scorer(job: ScoringJob) -> _Scorer:
    return _last().of(job)
