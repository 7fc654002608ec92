"""A scoring from its start, or from where it was broken off, to its end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from deployment_toolkit.bulk_scoring.options import ScoringOptions
from deployment_toolkit.bulk_scoring.origin import scoring_origin, served_model, stored_model
from deployment_toolkit.bulk_scoring.plan import ScoringPlan, make_plan, read_plan, write_plan
from deployment_toolkit.bulk_scoring.servers import at_once, known_spec
from deployment_toolkit.bulk_scoring.sources import RowSource, row_source
from deployment_toolkit.bulk_scoring.worker import PartResult, ScoringJob, score_part, served_model_of
from deployment_toolkit.cluster import ClusterOptions, open_cluster
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import remove
from deployment_toolkit.files.durable import whole_file
from deployment_toolkit.files.locks import sole_user
from deployment_toolkit.files.place import unwritable
from deployment_toolkit.files.scratch import entries, remove_left, remove_unfinished
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.command_line import CommandLine
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.rows.dump_files import PLAN_FILE
from deployment_toolkit.rows.dump_parts import REJECTED_FOLDER, SUCCESS_FILE, part_name, read_facts
from deployment_toolkit.tasks.running import ClusterTask

logger = logging.getLogger("scoring")


def score_dataset(command: CommandLine) -> int:
    """Scores all rows of a command that aren't scored yet; returns their number.

    Raises UsageError if the folder holds anything else or the scores of another command, and all errors of the data,
    the model, the servers and the cluster. What is complete stays, and the same command goes on.
    """
    command = command.from_anywhere
    options, cluster_options = command.get(ScoringOptions), command.get(ClusterOptions)
    folder = options.output_dir
    with _sole_user(folder):
        plan = _plan(command, options, folder)
        places = [folder, folder / REJECTED_FOLDER]
        for place in filter(Path.is_dir, places):
            remove_left(place)
        done = _finished(folder, plan)
        if len(done) == len(plan.parts) and (folder / SUCCESS_FILE).is_file():
            logger.info("%s is complete: %d rows in %d parts", folder, plan.rows, len(plan.parts))
            return 0
        remove(folder / SUCCESS_FILE)
        scored = _score(command, options, cluster_options, plan, done)
        finished = _finished(folder, plan)
        missing = [number for number in range(len(plan.parts)) if number not in finished]
        if missing:
            raise DataError(f"{folder} has lost {part_name(missing[0])} meanwhile: give the same command again")
        for place in filter(Path.is_dir, places):
            remove_unfinished(place)
        with whole_file(folder / SUCCESS_FILE) as beside:
            beside.touch()
        rejected = sum(result.rejected for result in finished.values())
        if rejected:
            logger.warning("%d rows can't be scored: %s tells which and why", rejected, folder / REJECTED_FOLDER)
        return scored


def _score(
    command: CommandLine,
    options: ScoringOptions,
    cluster_options: ClusterOptions,
    plan: ScoringPlan,
    done: dict[int, PartResult],
) -> int:
    """Scores the parts that are missing; returns the number of their rows."""
    job = ScoringJob(_values(command, options, cluster_options), plan.id)
    numbers = {part_name(number): number for number in range(len(plan.parts)) if number not in done}
    rejected = sum(result.rejected for result in done.values())
    _require_few(rejected, options)
    there = sum(len(plan.parts[number]) for number in done)
    if there:
        logger.info("%d of %d rows are scored already", there, plan.rows)
    started = time.monotonic()
    with (
        open_cluster(cluster_options, at_once=at_once(options.server_url)) as cluster,
        progress_bar("scoring", plan.rows, " rows") as progress,
    ):
        progress.n = progress.initial = there
        tasks = (ClusterTask(name, (job, number)) for name, number in numbers.items())
        with contextlib.closing(cluster.run(score_part, tasks)) as results:
            for name, result in results:
                progress.update(len(plan.parts[numbers[name]]))
                rejected += result.rejected
                _require_few(rejected, options)
    seconds = time.monotonic() - started
    rows = plan.rows - there
    told = "%d rows in %.1f s, %.0f rows/s, in %d parts of %s"
    logger.info(told, rows, seconds, rows / seconds, len(numbers), options.output_dir)
    return rows


def _plan(command: CommandLine, options: ScoringOptions, folder: Path) -> ScoringPlan:
    """The folder's plan, or a new one. Raises UsageError if it is of another command."""
    if options.force:
        _clear(folder)
    plan = read_plan(folder)
    source = row_source(command)
    model = served_model(known_spec(served_model_of(command))) if options.server_url else _stored(options)
    files = dict.fromkeys(piece.path for piece in source.pieces)
    origin = scoring_origin(vars(command.args), model, files, source.described)
    if plan is not None:
        changed = plan.changed(origin)
        if changed:
            raise UsageError(
                f"{folder} holds scores of another command, with other {' and '.join(changed)}: name another folder, "
                "or give --force to begin anew"
            )
        return plan
    foreign = entries(folder)
    if foreign:
        raise UsageError(f"--output-dir {folder} holds {foreign[0].name}, but no plan: name a new or empty folder")
    _require_columns(options, source)
    plan = make_plan(source.pieces, options.rows_per_part, origin)
    write_plan(folder, plan)
    return plan


def _stored(options: ScoringOptions) -> dict[str, object]:
    if options.input_path is None:
        raise UsageError("name the model with --input-path")
    return stored_model(options.input_path)


def _require_columns(options: ScoringOptions, source: RowSource) -> None:
    """Raises UsageError for an input that there is not, before the work."""
    if options.columns:
        rows = range(source.pieces[0].rows)
        _, batch = next(iter(source.read(rows, lambda row: None)), (None, None))
        unknown = [] if batch is None else [name for name in options.columns if name not in batch.x]
        if batch is not None and unknown:
            raise UsageError(f"--columns {unknown[0]}: there is no such input; there are {', '.join(sorted(batch.x))}")


def _clear(folder: Path) -> None:
    """Removes a plan and its parts, the plan last, so that a removal that is broken off is gone on with."""
    if not (folder / PLAN_FILE).is_file():
        return
    remove(folder / SUCCESS_FILE)
    for path in folder.glob("part-*.parquet"):
        remove(path)
    remove(folder / REJECTED_FOLDER)
    remove(folder / PLAN_FILE)


def _finished(folder: Path, plan: ScoringPlan) -> dict[int, PartResult]:
    """Parts of the plan that are there and whole, by number."""
    found = {}
    there = {path.name for path in folder.glob("part-*.parquet")}
    for number, rows in enumerate(plan.parts):
        name = f"{part_name(number)}.parquet"
        facts = read_facts(folder / name) if name in there else None
        if facts is not None and facts.plan_id == plan.id and facts.rows + facts.rejected == len(rows):
            found[number] = PartResult(facts.rows, facts.rejected)
    return found


def _values(command: CommandLine, options: ScoringOptions, cluster: ClusterOptions) -> dict[str, object]:
    values = command.portable
    if cluster.n_workers is not None and options.threads is None and not options.server_url:
        values["threads"] = max(1, usable_cores() // cluster.n_workers)
    return values


def _require_few(rejected: int, options: ScoringOptions) -> None:
    if rejected > options.max_bad_rows:
        raise DataError(
            f"{rejected} rows can't be scored, --max-bad-rows allows {options.max_bad_rows}: see "
            f"{options.output_dir / REJECTED_FOLDER}, mend the data or allow more"
        )


@contextlib.contextmanager
def _sole_user(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps it from other commands. Raises UsageError if another one scores into it, or if it is
    no folder, DataError if it can't be made."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output-dir {folder} is a file: name a folder")
    with contextlib.ExitStack() as alone:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            other = f"another command scores into {folder}"
            alone.enter_context(sole_user(folder, other, "wait for it, or name another folder"))
        except OSError as error:
            raise DataError(unwritable(folder, error)) from error
        yield
