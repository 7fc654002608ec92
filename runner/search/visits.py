"""Visits of candidates: each is deployed on the experiment's server, as the deploy stage does, and measured online with
perf_analyzer."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, PerformanceTool
from deployment_toolkit.errors import ProcessError
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.url import Scheme
from deployment_toolkit.triton_performance_runner.options import MeasurementMode
from runner.config.search import Search
from runner.experiment import Experiment, Step, make_command, script
from runner.search.algorithm import Round
from runner.search.results import MeasuredCandidate
from runner.search.space import Candidate
from runner.stages.client import client_options
from runner.stages.network import deploy, validation_rows

CONFIG = "config.pbtxt"
LEFT_OUT = "  left out, it could not be served or measured: {}: {}"
_STABILITY_PERCENT = 10
Found = Callable[[MeasuredCandidate, str | None], None]
Tell = Callable[[Candidate, int], str]


class Visits:
    """Measures rounds. ``folder`` gets a CSV per visit; ``found`` is told each visit as soon as it is made, with the
    ``config.pbtxt`` that it was deployed with, if it was; ``tell`` says what a person is told before each, by candidate
    and position in its round."""

    def __init__(self, experiment: Experiment, search: Search, folder: Path, found: Found, tell: Tell) -> None:
        self.experiment = experiment
        self.search = search
        self.folder = folder
        self.found = found
        self.tell = tell
        self.count = 0

    def measure(self, asked: Round) -> Generator[Step, None, list[MeasuredCandidate]]:
        """The commands that measure a round. Returns what was measured; a candidate that can't be deployed or measured
        is left out."""
        answer = []
        for position, candidate in enumerate(asked.candidates):
            yield self.tell(candidate, position)
            self.count += 1
            tuned = dataclasses.replace(self.experiment, parameters=candidate.over(self.experiment.parameters))
            table, started = self.folder / f"{self.count:02}.csv", time.monotonic()
            try:
                yield from self._commands(tuned, f"search_{self.count:02}", table, asked.final)
            except ProcessError as error:
                yield LEFT_OUT.format(candidate, error)
                continue
            rows = tuple(read_performance(table))
            visit = MeasuredCandidate(candidate, asked.number, asked.final, rows, time.monotonic() - started)
            config = tuned.folders.model_store / tuned.config.model_name / CONFIG
            self.found(visit, config.read_text())
            answer.append(visit)
        return answer

    def _commands(self, tuned: Experiment, name: str, table: Path, final: bool) -> Generator[Step, None, None]:
        for command in deploy(tuned):
            yield dataclasses.replace(command, name=f"{name}_deploy")
        load = load_options(tuned, self.search, PerformanceTool.PERF_ANALYZER, final=final)
        argv = [*script("run_performance_on_triton.py"), *load, "--result-path", table]
        yield make_command(f"{name}_performance", argv)


def load_options(experiment: Experiment, search: Search, tool: PerformanceTool, *, final: bool) -> list[object]:
    """The load of the search, on the deployed model: three windows per concurrency, the shortest that there are, or in
    the final ``window_ms`` long."""
    server = experiment.running_server
    windows: list[object] = ["--measurement-request-count", experiment.config.measurement.request_count]
    if final:
        windows = ["--measurement-mode", MeasurementMode.TIME_WINDOWS, "--measurement-interval", search.window_ms]
    return [
        *("--server-url", server.http_url if search.protocol is Scheme.HTTP else server.grpc_url),
        *("--model-name", experiment.config.model_name, "--model-repository", experiment.folders.model_store),
        *validation_rows(experiment),
        *("--batch-sizes", search.rows_per_request, "--concurrency", *search.concurrency),
        *("--evaluation-mode", EvaluationMode.ONLINE, "--performance-tool", tool),
        *("--warmup", *windows, "--retries", 0, "--stability-percentage", _STABILITY_PERCENT),
        *client_options(experiment),
    ]
