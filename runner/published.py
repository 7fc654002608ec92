"""Draws the original's published results, and writes a page that compares them with this project's newest kept run of
all formats: ``python -m runner.published``.

Source of the figures: the README of NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep/triton
(May 2022).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
)
from deployment_toolkit.results.plots import offline_plots, online_plots
from runner.kept_run import KeptRun, read_kept_run
from runner.kept_run.published_results import RESULTS, Sweep, read_published
from runner.kept_run.record import TASK_FILE

logger = logging.getLogger("published")

REPORTS = ROOT / "reports"
PAGE = "published.md"
PICTURES = "published"
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
    """Writes the pictures of all hosts and models, each kind in one, to ``published/plots``."""
    for mode, plots in ((EvaluationMode.OFFLINE, offline_plots), (EvaluationMode.ONLINE, online_plots)):
        for name, content in plots(
            {sweep.title: sweep.rows for sweep in sweeps if sweep.mode is mode}, _ORIGIN
        ).items():
            with replace_when_complete(reports / PICTURES / "plots" / name) as beside:
                beside.write_bytes(content)


@dataclass(frozen=True)
class OwnRun:
    """A run that is kept under ``reports/``, and the rows of each experiment, offline and online, by title."""

    run: KeptRun
    experiments: dict[str, tuple[Sequence[PerformanceRow], Sequence[PerformanceRow]]]

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return self.run.name

    @classmethod
    def newest(cls, reports: Path) -> OwnRun | None:
        """Newest run of the network (not of an ensemble), as in the original, among the runs with the most measured
        experiments. An experiment that was skipped or failed has no rows and is left out."""
        kept = [read_kept_run(path.parent) for path in reports.glob(f"*/{TASK_FILE}")]
        runs = [cls(run, _measured(run)) for run in kept if not run.config.get("ensemble_model_name")]
        return max(runs, key=lambda own: (len(own.experiments), own.run.started), default=None)


def _measured(run: KeptRun) -> dict[str, tuple[Sequence[PerformanceRow], Sequence[PerformanceRow]]]:
    host = f"{run.system.get('cpu', 'unknown CPU')}, {run.system.get('cores', '?')} cores"
    return {
        f"{host}, {item.parameters['format']} {item.parameters['precision']}": (item.offline, item.online)
        for item in run.experiments
        if item.offline and item.online
    }


def page(sweeps: Sequence[Sweep], run: OwnRun | None, reports: Path) -> str:
    """Text of ``published.md``."""
    lines = [_line(sweep.title, *_of(sweeps, sweep)) for sweep in sweeps if sweep.mode is EvaluationMode.OFFLINE]
    parts = ["# Published figures, and ours beside them\n", _INTRODUCTION]
    if run is not None:
        lines += [_line(f"**{title}**", *rows) for title, rows in run.experiments.items()]
        made = f"began {run.run.started} by `{run.run.command}`"
        parts.append(f"It is in bold, and {made}: [report]({run.name}/report.md).\n")
    table = markdown_table(lines)
    parts += [
        table,
        *([f"{DISTURBED_NOTE}\n"] if DISTURBED_MARK in table else []),
        "## Pictures of the published figures\n",
    ]
    names = sorted(path.name for path in (reports / PICTURES / "plots").glob("*.png"))
    parts += [f"![{_words(name)}]({PICTURES}/plots/{name})\n" for name in names]
    return "\n".join(parts)


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
