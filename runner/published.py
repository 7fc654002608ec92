"""Draws the original's published results, and writes a page that compares them with this project's newest kept run of
all formats: ``python -m runner.published``.

Source of the figures: the README of NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep/triton
(May 2022). Pictures go to folders named as the original's.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.results.performance import (
    DISTURBED_MARK,
    DISTURBED_NOTE,
    P99,
    US_PER_MS,
    PerformanceRow,
    headline,
    markdown_table,
    peak,
    read_performance_summary,
)
from deployment_toolkit.results.plots import offline_plots, online_plots
from runner.kept_run.published_results import RESULTS, Sweep, read_published
from runner.kept_run.record import read_task

logger = logging.getLogger("published")

REPORTS = ROOT / "reports"
PAGE = "published.md"
_INTRODUCTION = (
    "The original's results on four GPU hosts (May 2022, batch up to 131072, two instances; online 2048 rows "
    "a request), and this project's newest kept run of all formats on a host without a GPU. All published rows are in "
    f"[{RESULTS}]({RESULTS}). Made by `python -m runner.published`.\n"
)
_ORIGIN = "published by NVIDIA in May 2022, drawn anew from its tables"


@dataclass(frozen=True)
class PublishedOptions:
    """Options of the command."""

    reports: Path = option("folder of the reports", REPORTS)


def draw(sweeps: Sequence[Sweep], reports: Path) -> None:
    """Writes each sweep's pictures to ``<its folder>/plots``."""
    for sweep in sweeps:
        plots = offline_plots if sweep.mode is EvaluationMode.OFFLINE else online_plots
        origin = f"{sweep.title}: {_ORIGIN}"
        for name, content in plots({sweep.title: sweep.rows}, origin).items():
            with replace_when_complete(reports / sweep.folder / "plots" / name) as beside:
                beside.write_bytes(content)


@dataclass(frozen=True)
class OwnRun:
    """A run that is kept under ``reports/``: its folder's name, the content of ``task.yaml``, and the rows of each
    experiment."""

    name: str
    task: dict[str, Any]
    experiments: dict[str, tuple[list[PerformanceRow], list[PerformanceRow]]]  # offline, online

    @classmethod
    def newest(cls, reports: Path) -> OwnRun | None:
        """Newest run of the network (not of an ensemble), as in the original, among the runs with the most measured
        experiments. An experiment that was skipped or failed has no rows and is left out."""
        tasks = {path.parent: read_task(path) for path in reports.glob("*/task.yaml")}
        tasks = {folder: task for folder, task in tasks.items() if not task["config"].get("ensemble_model_name")}
        if not tasks:
            return None
        runs = [cls(folder.name, task, _measured(folder, task)) for folder, task in tasks.items()]
        return max(runs, key=lambda run: (len(run.experiments), str(run.task["started"])))


def _measured(folder: Path, task: Mapping[str, Any]) -> dict[str, tuple[list[PerformanceRow], list[PerformanceRow]]]:
    """Rows of a kept run's experiments, offline and online, by title."""
    system = task["system"] or {}
    host, measured = f"{system.get('cpu', 'unknown CPU')}, {system.get('cores', '?')} cores", {}
    paths = (
        folder / f"triton_performance_{mode}_summary.csv" for mode in (EvaluationMode.OFFLINE, EvaluationMode.ONLINE)
    )
    offline, online = (read_performance_summary(path, "experiment") if path.exists() else {} for path in paths)
    for number, configuration in enumerate(task["config"]["configurations"], 1):
        parameters, key = configuration["parameters"], str(number)
        if key in offline and key in online:
            measured[f"{host}, {parameters['format']} {parameters['precision']}"] = (offline[key], online[key])
    return measured


def page(sweeps: Sequence[Sweep], run: OwnRun | None, reports: Path) -> str:
    """Text of ``published.md``."""
    lines = [_line(sweep.title, *_of(sweeps, sweep)) for sweep in sweeps if sweep.mode is EvaluationMode.OFFLINE]
    parts = ["# Published figures, and ours beside them\n", _INTRODUCTION]
    if run is not None:
        lines += [_line(f"**{title}**", *rows) for title, rows in run.experiments.items()]
        made = f"began {run.task['started']} by `{run.task['command']}`"
        parts.append(f"It is in bold, and {made}: [report]({run.name}/report.md).\n")
    table = markdown_table(lines)
    parts += [
        table,
        *([f"{DISTURBED_NOTE}\n"] if DISTURBED_MARK in table else []),
        "## Pictures of the published figures\n",
    ]
    for sweep in sweeps:
        names = sorted(path.name for path in (reports / sweep.folder / "plots").glob("*.png"))
        links = (f"[{_words(name)}](<{sweep.folder}/plots/{name}>)" for name in names)
        parts.append(f"- {sweep.title}, {sweep.mode}: {', '.join(links)}")
    return "\n".join(parts) + "\n"


def _words(file_name: str) -> str:
    return file_name.removesuffix(".png").replace("_", " ")


def _of(sweeps: Sequence[Sweep], offline: Sweep) -> tuple[list[PerformanceRow], list[PerformanceRow]]:
    online = next(
        sweep
        for sweep in sweeps
        if sweep.mode is EvaluationMode.ONLINE and (sweep.device, sweep.backend) == (offline.device, offline.backend)
    )
    return offline.rows, online.rows


def _line(name: str, offline: Sequence[PerformanceRow], online: Sequence[PerformanceRow]) -> dict[str, str]:
    busiest = peak(online)
    p99 = "" if busiest is None else f"{busiest[P99] / US_PER_MS:.2f}"
    return {"host and model": name, **headline(offline, online), "its p99 (ms)": p99}


def main(argv: list[str]) -> None:
    parser = make_parser("Draws the published results and writes the page that compares them with the newest own run.")
    add_dataclass(parser, PublishedOptions)
    reports = from_args(PublishedOptions, parser.parse_args(argv)).reports
    sweeps = read_published(reports / RESULTS)
    draw(sweeps, reports)
    write_text(reports / PAGE, page(sweeps, OwnRun.newest(reports), reports))
    logger.info("%d rows drawn; %s", sum(len(sweep.rows) for sweep in sweeps), reports / PAGE)


if __name__ == "__main__":
    run_entry_point(main)
