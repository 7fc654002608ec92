"""Pipeline of a run: preparation, then each experiment stage by stage, then the report."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, TextIO

from deployment_toolkit.endings.interrupts import interrupts_held
from deployment_toolkit.errors import DataError
from runner.compare.baseline import compare_with_baseline
from runner.config.hosting import missing_here
from runner.config.run import RunConfig
from runner.console import Console
from runner.executor import Executor, StageShell
from runner.experiment import Experiment
from runner.kept_run import KeptRun
from runner.networks.network import PreparationStage, relative
from runner.records import StageRecord, StageState
from runner.report.html.page import write_run_page
from runner.report.page import save_report
from runner.report.parts import parts_in
from runner.report.results import keep_configs
from runner.report.system_info import read_system_info
from runner.report.task import QUICK_LOOK, TASK_FILE, Task
from runner.reserve import Reserve
from runner.resuming.earlier_run import take_over
from runner.resuming.kept_stages import KeptStages
from runner.resuming.ledger import RunLedger
from runner.search.stage import search_plan, search_settings
from runner.servers import end_of_server, server_for
from runner.stages.capacity import PERFORMANCE_CAPACITY
from runner.stages.ensemble import ENSEMBLE_CAPACITY, ENSEMBLE_STAGES
from runner.stages.network import STAGES, Stage
from runner.stages.preparation import preparation_lock, preparation_stages
from runner.stages.time_budget import RunBudget
from runner.workspace import Workspace


def run_pipeline(
    config: RunConfig,
    workspace: Workspace,
    command: str,
    env: Mapping[str, str],
    stream: TextIO,
    *,
    numbers: Sequence[int] = (),
    refused: Mapping[int, str],
    devices: Sequence[int] = (),
    keep_models: bool,
    baseline: KeptRun | None = None,
    quick: Sequence[str] = (),
    ledger: RunLedger | None = None,
    earlier: Mapping[str, Any] | None = None,
) -> int:
    """Runs the experiments ``numbers``, by default all, and writes the report; returns 0, 1 if any stage failed, or 3
    if the run is worse than ``baseline`` allows. ``refused`` are those that can't be served, with the reasons.
    ``quick`` says, in sentences, what this run does otherwise than the full one, if it is a quick look. ``ledger``
    tells a later start what it can keep, by default one without a command; ``earlier`` is the ``task.yaml`` of a run
    that goes on.

    Ctrl-C stops the running stage and keeps all measurements; it is raised again after the report is written. If the
    disk fills up, the records of the run are whole all the same, since it has kept space back for them.
    """
    console = Console(stream, workspace.run)
    task = Task(config=config, command=command, system=read_system_info(), started=datetime.now(UTC), quick=list(quick))
    task.earlier = parts_in(earlier) if earlier else []
    if quick:
        console.show("\n  ".join([QUICK_LOOK, *quick]))
    reserve, task_file = Reserve(workspace.run), workspace.run / TASK_FILE
    ledger = ledger or RunLedger.begin(workspace.run, ())
    ledger.write = reserve.write

    def save_task() -> None:
        reserve.write(str(task_file), lambda: task.save(task_file))

    executor = Executor(workspace.logs, env, console, save_task, len(task.parts))
    task.records = executor.records
    save_task()
    experiments = [
        Experiment.create(config, number, workspace, devices) for number in numbers or config.experiment_numbers
    ]
    try:
        known, trains_briefly = _preparation_in(earlier), bool(quick) and config.network is None
        prepared = _prepare(config, workspace, executor, known, trains_briefly=trains_briefly)
        budget = _budget(config, [item for item in experiments if item.number not in refused], executor)
        for experiment in experiments:
            if experiment.number in refused:
                _refuse(experiment, executor, refused[experiment.number])
                continue
            reason = missing_here(experiment.parameters) if prepared else "preparation failed"
            if experiment.fitted:
                executor.tell(f"experiment {experiment.number}: {experiment.fitted}")
            if reason:
                _skip(experiment, executor, reason)
            else:
                _run_experiment(experiment, executor, reserve, budget, ledger)
    except KeyboardInterrupt:
        task.interrupted = True
        raise
    finally:
        with interrupts_held():
            for experiment in experiments:
                take_over(task, experiment, stages_of(experiment), ledger)
            task.finished = datetime.now(UTC)
            reported = save_report(task, experiments, workspace, console, reserve)
            _end(task, workspace, console, keep_models=keep_models)
    failed = task.failed or not reported
    if baseline is None or config.baseline is None:
        return 1 if failed else 0
    try:
        code = compare_with_baseline(workspace.run, baseline, config.baseline.limit, console.show)
    finally:
        write_run_page(workspace.run)  # its last question has an answer now
    return 1 if failed else code


def _end(task: Task, workspace: Workspace, console: Console, *, keep_models: bool) -> None:
    """Removes the models of a run that is complete; tells of those of any other how it goes on."""
    if not (task.failed or task.interrupted):
        if not keep_models:
            workspace.remove_models()
        return
    until = "" if task.failed or keep_models else " until the next run starts"
    console.show(f"models and dumps are kept{until} under {workspace.root}/{{model_store,shared_dir}}")
    console.show(f"the run goes on with: python -m runner --resume {workspace.run_name}")


def _preparation_in(earlier: Mapping[str, Any] | None) -> dict[str, StageRecord]:
    """The stages of the preparation that ended well in an earlier part of the run, by name."""
    found = [StageRecord.from_dict(stage) for stage in (earlier or {}).get("stages", ()) if stage["experiment"] is None]
    return {record.name: record for record in found if record.state is StageState.OK}


def _prepare(
    config: RunConfig,
    workspace: Workspace,
    executor: Executor,
    earlier: Mapping[str, StageRecord],
    *,
    trains_briefly: bool,
) -> bool:
    """Prepares data and checkpoints; False if a stage failed. Nobody is asked to provide the checkpoint that a quick
    look trains briefly: it has said which one is missing."""
    with preparation_lock(config):
        for stage in preparation_stages(config, workspace):
            if stage.is_done and stage.name in earlier:
                executor.keep(earlier[stage.name])
                continue
            if stage.is_done:
                executor.note(stage.name, None, StageState.REUSED, relative(stage.product))
                continue
            if trains_briefly and stage.name == "training":
                stage = dataclasses.replace(stage, advice="")
            if not _make(stage, executor):
                return False
    return True


def _make(stage: PreparationStage, executor: Executor) -> bool:
    if stage.advice:
        executor.tell(stage.advice)
    with executor.stage(stage.name, None) as record:
        executor.run(record, stage.command())
        if not stage.is_done:
            raise DataError(f"{record.name} ended well but did not make {stage.product}: see its log, {record.log}")
    return record.state is StageState.OK


def _budget(config: RunConfig, experiments: Sequence[Experiment], executor: Executor) -> RunBudget:
    """The time of the experiments that can run here, from now on."""
    minutes, count = config.time_budget_minutes, sum(not missing_here(item.parameters) for item in experiments)
    if minutes and count:
        executor.tell(
            f"time budget: {minutes:g} minutes for {count} experiment{'s' if count > 1 else ''}, "
            f"about {60 * minutes / count:.0f} s each"
        )
    return RunBudget(minutes, count)


def _run_experiment(
    experiment: Experiment, executor: Executor, reserve: Reserve, budget: RunBudget, ledger: RunLedger
) -> None:
    """Runs the stages up to the first that fails; the rest is skipped, and what an earlier part of the run has made is
    kept. The server runs as long as the experiment."""
    budget.begin_experiment()
    with contextlib.ExitStack() as stack:
        stages = stages_of(experiment)
        kept = KeptStages(experiment, stages, ledger)
        for done, stage in enumerate(stages, 1):
            if (known := kept.record(stage)) is not None:
                executor.keep(known)
                continue
            if stage.shares_memory and experiment.server_config.distant:
                reason = f"it needs the server's shared memory, and {experiment.server_config.distant} is another host"
                executor.note(stage.name, experiment.number, StageState.SKIPPED, reason)
                continue
            with executor.stage(stage.name, experiment.number, lambda: end_of_server(experiment)) as record:
                if stage.needs_server and experiment.server is None:
                    with _not_counted(budget, record):  # the first start of a container builds its image, or fetches it
                        experiment.server = stack.enter_context(server_for(experiment))
                    # Before the model is removed from somebody else's server.
                    stack.callback(reserve.write, "config.pbtxt", partial(keep_configs, experiment))
                kept.begin(stage)
                experiment.sweep_s = (
                    budget.share_s(stage.parts, _parts(experiment, stages[done - 1 :])) if stage.measures else None
                )
                shell = StageShell(executor, record, experiment.server.pid if experiment.server else None)
                with _not_counted(budget, record) if stage is SEARCH else contextlib.nullcontext():
                    stage.run(experiment, shell)
                shell.leave_failures_out()
            if record.state is StageState.OK:
                kept.end(stage, record)
            else:
                for skipped in stages[done:]:
                    if (known := kept.record(skipped)) is not None:
                        executor.keep(known)
                        continue
                    executor.note(skipped.name, experiment.number, StageState.SKIPPED, f"{stage.name} failed")
                return


def _parts(experiment: Experiment, stages: Sequence[Stage]) -> int:
    """Parts of the time of those of these stages that measure."""
    distant = experiment.server_config.distant
    return sum(stage.parts for stage in stages if stage.measures and not (stage.shares_memory and distant))


@contextlib.contextmanager
def _not_counted(budget: RunBudget, record: StageRecord) -> Iterator[None]:
    """The block takes no time from the budget."""
    started = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - started
        budget.add(seconds)
        record.uncounted_s += seconds


def _refuse(experiment: Experiment, executor: Executor, reason: str) -> None:
    """Records that an experiment can't run as it is configured: its first stage failed."""
    first, *others = stages_of(experiment)
    executor.note(first.name, experiment.number, StageState.FAILED, reason)
    for stage in others:
        executor.note(stage.name, experiment.number, StageState.SKIPPED, f"{first.name} failed")


def _skip(experiment: Experiment, executor: Executor, reason: str) -> None:
    for stage in stages_of(experiment):
        executor.note(stage.name, experiment.number, StageState.SKIPPED, reason)


SEARCH = Stage("search", search_settings, needs_server=True, plan=search_plan)
_DEPLOY = next(index for index, stage in enumerate(STAGES) if stage.name == "deploy")


def stages_of(experiment: Experiment) -> tuple[Stage, ...]:
    """Stages in order: a requested search before the deployment of the model; an ensemble's stages after all others.
    Capacity, where it is asked for, is measured last of each model."""
    search = (SEARCH,) if experiment.search is not None else ()
    capacity, of_ensemble = (
        ((PERFORMANCE_CAPACITY,), (ENSEMBLE_CAPACITY,)) if experiment.capacity is not None else ((), ())
    )
    ensemble = (*ENSEMBLE_STAGES, *of_ensemble) if experiment.names.ensemble is not None else ()
    return (*STAGES[:_DEPLOY], *search, *STAGES[_DEPLOY:], *capacity, *ensemble)
