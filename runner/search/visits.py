"""Visits of candidates: each candidate is deployed on the experiment's server, like in the deploy stage, and measured
online with perf_analyzer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, PerformanceTool
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.url import Scheme
from runner.command import Shell, make_command, script
from runner.config.search import Search
from runner.experiment import Experiment
from runner.search.algorithm import Round
from runner.search.kept_visits import keep_visit, kept_visit
from runner.search.results import MeasuredCandidate
from runner.search.space import Candidate
from runner.stages.client import client_options, window_options
from runner.stages.network import deploy

CONFIG = "config.pbtxt"
_STABILITY_PERCENT = 10
Found = Callable[[MeasuredCandidate, str], None]
Progress = Callable[[Candidate, int], str]


class Visits:
    """Measurement of rounds. ``folder`` gets a CSV per visit, and what lets a search that was stopped go on; ``found``
    is called after each visit, with its ``config.pbtxt``; ``progress`` makes the line that the user sees before each
    visit, from candidate and position in the round."""

    def __init__(self, experiment: Experiment, search: Search, folder: Path, found: Found, progress: Progress) -> None:
        self._experiment = experiment
        self._search = search
        self._folder = folder
        self._found = found
        self._progress = progress
        self._count = 0

    def measure(self, asked: Round, shell: Shell) -> list[MeasuredCandidate]:
        """Measures a round; a candidate that can't be deployed or measured is left out."""
        answer = []
        for position, candidate in enumerate(asked.candidates):
            shell.tell(self._progress(candidate, position))
            try:
                answer.append(self._visit(candidate, asked, shell))
            except ProcessError as error:
                shell.tell(f"  left out, it could not be served or measured: {candidate}: {error}")
        return answer

    def _visit(self, candidate: Candidate, asked: Round, shell: Shell) -> MeasuredCandidate:
        self._count += 1
        tuned = dataclasses.replace(self._experiment, parameters=candidate.over(self._experiment.parameters))
        name, table, started = f"search_{self._count:02}", self._folder / f"{self._count:02}.csv", time.monotonic()
        known = kept_visit(table, candidate, asked)
        if known is not None:
            shell.tell(f"  measured before, and kept: {candidate}")
            self._found(*known)
            return known[0]
        for command in deploy(tuned):
            shell.run(dataclasses.replace(command, name=f"{name}_deploy"))
        load = load_options(tuned, self._search, final=asked.final)
        argv = [*script("run_performance_on_triton.py"), *load, "--result-path", table]
        shell.run(make_command(f"{name}_performance", argv, tuned.server_config.client_variables))
        rows = tuple(read_performance(table))
        visit = MeasuredCandidate(candidate, asked.number, asked.final, rows, time.monotonic() - started)
        config = (tuned.folders.model_store / tuned.names.network / CONFIG).read_text()
        keep_visit(table, visit, config)
        self._found(visit, config)
        return visit


def load_options(experiment: Experiment, search: Search, *, final: bool) -> list[object]:
    """Options of the load on the deployed model: three windows per concurrency, the shortest possible, or in the final
    ``window_ms`` long."""
    server = experiment.running_server
    measurement = experiment.sweeps.measurement
    if final:
        measurement = dataclasses.replace(measurement, window_ms=search.window_ms)
    return [
        *("--server-url", server.http_url if search.protocol is Scheme.HTTP else server.grpc_url),
        *("--model-name", experiment.names.network, "--model-repository", experiment.folders.model_store),
        *experiment.network.row_arguments(experiment.parameters.max_batch_size),
        *("--batch-sizes", search.rows_per_request, "--concurrency", *search.concurrency),
        *("--evaluation-mode", EvaluationMode.ONLINE, "--performance-tool", PerformanceTool.PERF_ANALYZER),
        *("--warmup", *window_options(measurement), "--retries", 0, "--stability-percentage", _STABILITY_PERCENT),
        *client_options(experiment),
        *experiment.server_config.client_options,
    ]
