"""The report of a run: summaries as CSV, pictures, ``report.md``, ``report.html``, and a table on the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.results.performance import markdown_table, performance_cells, performance_markdown
from deployment_toolkit.results.plots import offline_plots, online_plots
from deployment_toolkit.results.tables import write_csv
from runner.config.parts import Correctness
from runner.console import Console
from runner.experiment import Experiment
from runner.records import StageRecord, StageState
from runner.report.capacity import CAPACITY_TITLES, capacity_pictures, capacity_section, write_capacity_summary
from runner.report.disturbance import disturbance_note, judged_results
from runner.report.html.page import PAGE, write_run_page
from runner.report.parts import parts_section
from runner.report.queue import queue_note
from runner.report.replay import replay_script
from runner.report.results import ExperimentResult, metrics_of, read_results
from runner.report.search import search_plots, search_section
from runner.report.sizing import sizing_lines, sizing_section
from runner.report.task import QUICK_LOOK, TASK_FILE, Task
from runner.report.time_budget import budget_note
from runner.reserve import Reserve
from runner.workspace import Workspace

REPLAY = "replay.sh"
WORST_ROWS_SUMMARY = "worst_rows_summary.csv"
REPLAY_NOTE = f" Each experiment's `{REPLAY}` repeats its commands."
_PLOT_TITLES = {
    "throughput_vs_batch.png": "Offline throughput by batch size",
    "latency_vs_batch.png": "Offline latency by batch size",
    "latency_vs_concurrency.png": "Online latency and throughput by concurrency",
    **CAPACITY_TITLES,
}


def save_report(
    task: Task, experiments: Sequence[Experiment], workspace: Workspace, console: Console, reserve: Reserve
) -> bool:
    """Writes everything there is to tell of a run, whether it went well or not. False if a part could not be written,
    on a full disk: the report comes before what only adds to it."""
    reserve.release()
    written = []
    for experiment in experiments:
        records = task.of_experiment(experiment.number)
        if any(record.commands for record in records):
            path, script = experiment.folders.results / REPLAY, replay_script(experiment, records, REPLAY)
            written.append(reserve.write(str(path), partial(write_text, path, script)))
    results = judged_results(
        [
            result
            for experiment in experiments
            for result in read_results(experiment, task.of_experiment(experiment.number))
        ]
    )
    report, record = workspace.run / "report.md", workspace.run / TASK_FILE
    plots: list[str] = []

    def write_report() -> None:
        write_text(report, report_markdown(task, results, plots, workspace.run_name))

    written.append(reserve.write(str(record), lambda: task.save(record)))
    written.append(reserve.write(str(report), write_report))
    written.append(reserve.write("a summary", lambda: _write_summaries(results, workspace.run)))
    folder = workspace.run / "plots"
    if reserve.write(str(folder), lambda: plots.extend(_write_plots(results, provenance(task), folder))):
        written.append(reserve.write(str(report), write_report))
    else:
        written.append(False)
    if record.is_file():  # the page is made of it and of the summaries
        page = workspace.run / PAGE
        written.append(reserve.write(str(page), lambda: write_run_page(workspace.run)))
    console.show("")
    console.show(plain_table(_summary(results)))
    told = f"{QUICK_LOOK} The same command without --quick is the full run." if task.quick else ""
    notes = (sizing_lines(task.config.capacity, results), budget_note(task, results), disturbance_note(results), told)
    for note in notes:
        if note:
            console.show(f"\n{note}")
    if (workspace.run / PAGE).is_file():
        console.show(f"\nto look at in a browser: {workspace.run / PAGE}")
    console.show(f"\nreport: {report}")
    return all(written)


def provenance(task: Task) -> str:
    """Place and time of a run, for the head of pictures."""
    place = f"{task.config.model_name} on {task.system.summary}, {task.started:%Y-%m-%d %H:%M} UTC"
    return f"{place}, a quick look" if task.quick else place


def report_markdown(task: Task, results: Sequence[ExperimentResult], plots: Sequence[str], run_name: str) -> str:
    """The text of ``report.md``."""
    parts = [f"# {task.config.model_name}, run {run_name}\n", *_quick(task), _verdict(task)]
    parts += [f"{note}\n" for note in (budget_note(task, results), disturbance_note(results)) if note]
    parts += [_origin(task), *parts_section(task.parts)]
    parts += ["## Summary\n", _transposed(_summary(results))]
    parts += sizing_section(task.config.capacity, results)
    parts += ["## Pictures\n", *(f"![{_PLOT_TITLES[name]}](plots/{name})\n" for name in plots)]
    parts += ["## Stages\n", _stages(task), _STAGES_NOTE]
    for result in results:
        parts += _experiment(result)
    parts += ["## Versions\n", markdown_table([{"package": k, "version": v} for k, v in task.system.packages.items()])]
    return "\n".join(parts)


_STAGES_NOTE = (
    "Memory is the largest proportional set size of a stage's processes together, from the deploy stage on with the "
    f"server's.{REPLAY_NOTE}\n"
)

_QUICK_USE = "It shows that everything works, and first figures. The same command without `--quick` is the full run."

_LATENCY_NOTE = (
    "The average latency is the sum of its parts: the client sends, network and server transfer, the request waits in "
    "the queue, the server computes (input, inference, output), the client receives. Measured by perf_analyzer on the "
    "same host, which shares its cores with the server, on rows of the validation data.\n"
)


_GATE_NOTE = (
    "`framework` is the checkpoint in TensorFlow; the others are the deployed model, asked over each protocol one "
    "request at a time (sync) and many at once (async). The largest difference is that of any row's answer.\n"
)


def _readable(row: Mapping[str, str], limits: Correctness) -> dict[str, str]:
    """A line of correctness.csv without its derived columns."""
    return {
        "model": row["name"],
        "rows": f"{int(row['rows']):,}",
        **{limits.title(metric): f"{float(row[metric]):.6f}" for metric in metrics_of(row)},
        "largest difference": f"{float(row['max_abs_diff']):.1e}" if row["max_abs_diff"] else "not comparable",
        "tolerance": row["tolerance"].replace("|", "∣"),
        "rows out of tolerance": row["rows_out_of_tolerance"],
        "passed": "yes" if row["passed"] == "True" else "**no**",
    }


def _quick(task: Task) -> list[str]:
    """What a reader must know before the figures of a quick look."""
    if not task.quick:
        return []
    return ["\n".join([f"**{QUICK_LOOK}** {_QUICK_USE}", "", *(f"- {line}" for line in task.quick)]) + "\n"]


def _verdict(task: Task) -> str:
    ended = [record for record in task.records if record.state in (StageState.FAILED, StageState.INTERRUPTED)]
    if not ended and not task.interrupted:
        return _passed([record for record in task.records if record.state is StageState.SKIPPED])
    head = "The run was interrupted; what it had measured is below." if task.interrupted else "Not everything passed:"
    lines = [
        f"- **{'preparation' if record.experiment is None else f'experiment {record.experiment}'}, {record.name}: "
        f"{record.state}.** {record.message} (log: `{record.log}`)"
        for record in ended
    ]
    return "\n".join([head, "", *lines]) + "\n"


def _passed(skipped: Sequence[StageRecord]) -> str:
    if not skipped:
        return "Every stage of every experiment passed.\n"
    stages: dict[tuple[int | None, str], list[str]] = {}
    for record in skipped:
        stages.setdefault((record.experiment, record.message), []).append(record.name)
    lines = [f"- experiment {number}, {', '.join(names)}: {message}" for (number, message), names in stages.items()]
    return "\n".join(["Every stage passed but for those that could not be run:", "", *lines]) + "\n"


def _origin(task: Task) -> str:
    first, ended = task.parts[0], [part for part in task.parts if part.finished is not None]
    seconds = sum((part.finished - part.started).total_seconds() for part in ended if part.finished is not None)
    without = " without the parts that were killed" if len(ended) < len(task.parts) else ""
    facts = {
        "host": task.system.summary,
        "load average at the start": str(task.system.load_average),
        "started (UTC)": f"{first.started:%Y-%m-%d %H:%M:%S}",
        "duration": f"{seconds:.0f} s{without}",
        "command": f"`{first.command}`",
        "configuration": "in [task.yaml](task.yaml)",
    }
    return markdown_table([{"provenance": name, "": value} for name, value in facts.items()])


def _stages(task: Task) -> str:
    return markdown_table(
        [
            {
                "experiment": "-" if record.experiment is None else record.experiment,
                "stage": record.name,
                "state": str(record.state),
                **({"part": record.part} if task.earlier else {}),
                "seconds": f"{record.seconds:.1f}",
                "peak memory (GiB)": f"{record.peak_memory_bytes / 2**30:.2f}",
            }
            for record in task.records
        ]
    )


def _experiment(result: ExperimentResult) -> list[str]:
    folder = str(result.folder.relative_to(result.experiment.workspace.run))
    parts = [f"## Experiment {result.title}\n", _transposed([result.parameters | {"server": result.server}])]
    parts += [f"Chosen for this host: {result.experiment.fitted}.\n"] if result.experiment.fitted else []
    parts += [f"Converted: {result.conversion}.\n"] if result.conversion else []
    parts += queue_note(result)
    parts += search_section(result)
    if result.correctness:
        limits = result.experiment.correctness
        parts += [
            "### Correctness\n",
            markdown_table([_readable(row, limits) for row in result.correctness]),
            _GATE_NOTE,
        ]
    for mode, name in ((EvaluationMode.OFFLINE, "Offline"), (EvaluationMode.ONLINE, "Online")):
        if result.performance(mode):
            left_out = result.left_out.get(mode)
            told = [f"Left out by the time budget: {left_out.words}.\n"] if left_out else []
            parts += [f"### {name}\n", performance_markdown(result.performance(mode)), *told, _LATENCY_NOTE]
    parts += capacity_section(result)
    if any(record.commands for record in result.records):
        parts.append(f"Files: [{folder}]({folder})\n")
    return parts


def _write_summaries(results: Sequence[ExperimentResult], folder: Path) -> None:
    correctness = [{**result.parameters, **row} for result in results for row in result.correctness]
    if correctness:
        write_csv(folder / "correctness_summary.csv", correctness)
    worst = [{**result.parameters, **row} for result in results for row in result.worst_rows]
    if worst:
        write_csv(folder / WORST_ROWS_SUMMARY, worst)
    for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE):
        rows = [
            {**result.parameters, **performance_cells(row)} for result in results for row in result.performance(mode)
        ]
        if rows:
            write_csv(folder / f"triton_performance_{mode}_summary.csv", rows)
    write_capacity_summary(results, folder)


def _write_plots(results: Sequence[ExperimentResult], origin: str, folder: Path) -> list[str]:
    """Names of the pictures that could be drawn."""
    offline = {result.title: result.offline for result in results if result.offline}
    online = {result.title: result.online for result in results if result.online}
    plots: dict[str, bytes] = {}
    if offline:
        plots |= offline_plots(offline, origin)
    if online:
        plots |= online_plots(online, origin)
    plots |= capacity_pictures(results, origin)
    searches = search_plots(results, origin)
    folder.mkdir(exist_ok=True)
    for name, content in (plots | searches).items():
        with replace_when_complete(folder / name) as beside:
            beside.write_bytes(content)
    return list(plots)


def _summary(results: Sequence[ExperimentResult]) -> list[dict[str, str]]:
    """A line for each result. What one was not asked for, as a capacity for so many rows, is empty there."""
    summaries = [result.summary for result in results]
    names = dict.fromkeys(name for summary in summaries for name in summary)
    return [{name: summary.get(name) or "-" for name in names} for summary in summaries]


def _transposed(rows: Sequence[Mapping[str, str]]) -> str:
    """A markdown table with a column per row: few rows of many values read better so."""
    first, *names = rows[0]
    return markdown_table([{first: name, **{row[first]: row[name] for row in rows}} for name in names])


def plain_table(rows: Sequence[Mapping[str, str]]) -> str:
    """A table for a terminal, a column per row."""
    names = list(rows[0])
    width = max(map(len, names))
    columns = [max(len(row[name]) for name in names) for row in rows]
    return "\n".join(
        f"{name:<{width}}  " + "  ".join(f"{row[name]:>{size}}" for row, size in zip(rows, columns, strict=True))
        for name in names
    )
