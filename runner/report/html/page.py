"""A run as one page of HTML."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.results.disturbed import disturbance_sentence
from deployment_toolkit.results.performance import DISTURBED
from runner.kept_run import KeptExperiment, KeptRun, KeptStage, read_kept_run
from runner.kept_run.record import TASK_FILE
from runner.page.document import Section, html_page
from runner.page.elements import folded, items, joined, paragraph
from runner.records import StageState
from runner.report.html.answers import answers
from runner.report.html.capacity import capacity_section
from runner.report.html.correctness import correctness_section, require_figures
from runner.report.html.facts import commands_section, configuration_section, host_section, parts_of
from runner.report.html.figures import frontier_section, parts_section, sweeps_section
from runner.report.html.stages import stages_section
from runner.report.task import QUICK_LOOK
from runner.stages.client import LEFT_OUT

PAGE = "report.html"
_BAD = (StageState.FAILED, StageState.INTERRUPTED, StageState.KILLED)


def write_run_page(folder: Path, *, name: str = "") -> None:
    """Writes ``report.html`` of the run, or kept report, in ``folder`` from the other files there; ``name`` is the
    run's, if it is not the folder's. Raises what ``read_kept_run`` raises, and DataError if the page can't be made of
    what is in a file, or can't be written."""
    run = read_kept_run(folder)
    write_text(folder / PAGE, run_page(replace(run, name=name) if name else run))


def run_page(run: KeptRun) -> str:
    """Text of the page. Raises DataError if a table of correctness or a time isn't what it should be."""
    require_figures(run)
    sections = [
        ("Throughput and latency", sweeps_section(run)),
        ("Throughput against p99", frontier_section(run)),
        ("Capacity", capacity_section(run)),
        ("Parts of latency", parts_section(run)),
        ("Correctness", correctness_section(run)),
        ("Stages", stages_section(run)),
        ("Configuration", configuration_section(run)),
        ("Host and versions", host_section(run)),
        ("Commands", commands_section(run)),
    ]
    shown = [Section(title, body) for title, body in sections if body]
    title = f"{run.config.get('model_name', 'Model')}: run {run.name}"
    parts = [
        _verdict(run),
        *_quick(run),
        _origin(run),
        *_disturbance(run),
        *_left_out(run),
        answers(run),
        *_remarks(run),
    ]
    head = joined(parts)
    return html_page(title, shown, head=head, data=_data(run))


def _verdict(run: KeptRun) -> Markup:
    bad = [stage for stage in run.stages if stage.state in _BAD]
    skipped = [stage for stage in run.stages if stage.state == StageState.SKIPPED]
    if not bad and not run.interrupted:
        alone = {(stage.experiment, stage.message) for stage in skipped}
        told = [f"experiment {number}: {message}" for number, message in sorted(alone, key=str)]
        text = "Every stage passed" + (", but for those that could not be run" if told else "")
        return joined([Markup('<p class="verdict good">✓ {}</p>').format(text), *([items(told)] if told else [])])
    text = "The run was interrupted; what it had measured is here" if run.interrupted else "Not everything passed"
    told = [f"{_place(stage)}: {stage.state}. {stage.message}" for stage in bad]
    return joined([Markup('<p class="verdict bad">✗ {}</p>').format(text), items(told)])


def _quick(run: KeptRun) -> Iterable[Markup]:
    """What a quick look did otherwise than the full run."""
    changes = run.task.get("quick")
    if changes:
        yield paragraph(QUICK_LOOK, "bad")
        yield items([str(change) for change in changes] if isinstance(changes, list) else [str(changes)])


def _place(stage: KeptStage) -> str:
    return f"{'preparation' if stage.experiment is None else f'experiment {stage.experiment}'}, {stage.name}"


def _remarks(run: KeptRun) -> Iterable[Markup]:
    """What stages that went well have to say: what a time budget left out, for instance."""
    told = [f"{_place(stage)}: {stage.message}" for stage in _remarking(run)]
    if told:
        yield folded(f"What the stages say ({len(told)})", items(told))


def _remarking(run: KeptRun) -> list[KeptStage]:
    return [stage for stage in run.stages if stage.state == StageState.OK and stage.message]


def _left_out(run: KeptRun) -> Iterable[Markup]:
    """Sentence about what the time budget left out; none if nothing."""
    shortened = sum(stage.message.startswith(LEFT_OUT) for stage in _remarking(run))
    if shortened:
        yield paragraph(
            f"The time budget of {run.config.get('time_budget_minutes') or 0:g} minutes left out points or repeats of "
            f"{shortened} sweep{'s' if shortened > 1 else ''}: below the answers the stages say which.",
            "note",
        )


def _origin(run: KeptRun) -> Markup:
    facts = [run.host, f"started {run.started.replace('T', ' ')[:16]} UTC"]
    if run.finished:
        seconds = (_time(run, run.finished) - _time(run, run.started)).total_seconds()
        facts.append(f"took {seconds / 60:.0f} minutes" if seconds >= 120 else f"took {seconds:.0f} s")
    parts = parts_of(run)
    facts += [f"in {len(parts)} parts, for it was resumed"] if parts else []
    if run.system.get("load_average") is not None:
        facts.append(f"load average {run.system['load_average']} at the start")
    return paragraph(" · ".join(facts), "note")


def _time(run: KeptRun, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise DataError(f"{run.folder / TASK_FILE}: {text!r} is no time of a run: give another run") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _disturbance(run: KeptRun) -> Iterable[Markup]:
    """Sentence about what else used the cores; none for runs that don't tell it."""
    rows = [row for item in run.experiments for row in (*item.offline, *item.online, *item.capacity)]
    if told := disturbance_sentence(rows):
        yield paragraph(told, "bad" if any(row.get(DISTURBED) for row in rows) else "note")


def _data(run: KeptRun) -> dict[str, Any]:
    """All figures of the page, for programs; latencies in microseconds, as in the CSV files."""
    return {
        "name": run.name,
        "command": run.command,
        "started": run.started,
        "finished": run.finished,
        "interrupted": run.interrupted,
        "system": run.system,
        "stages": [vars(stage) for stage in run.stages],
        "experiments": [_experiment(item) for item in run.experiments],
        "config": run.config,
    }


def _experiment(item: KeptExperiment) -> dict[str, Any]:
    return {
        "title": item.title,
        "parameters": item.parameters,
        "correctness": item.correctness,
        "worst_rows": item.worst_rows,
        "offline": item.offline,
        "online": item.online,
        "capacity": item.capacity,
    }
