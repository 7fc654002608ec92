"""Search stage: measures candidates on the experiment's server, and sets the experiment's parameters to the chosen
settings."""

from __future__ import annotations

import dataclasses
import sys

from deployment_toolkit.errors import PerformanceError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.mapping import to_plain
from runner.command import Command, Shell, make_command, script
from runner.config.hosting import host_of
from runner.config.search import Search
from runner.experiment import Experiment
from runner.search.algorithm import Round, walk
from runner.search.results import SEARCH_TABLE, MeasuredCandidate, best_points, chosen_in, write_search
from runner.search.space import Candidate, Space
from runner.search.verdict import Verdict
from runner.search.visits import CONFIG, Visits, load_options
from runner.stages.network import deploy

FOLDER = "search"


def search_settings(experiment: Experiment, shell: Shell) -> None:
    """Measures candidates and shows the progress; later stages of the experiment use the chosen settings. Raises
    PerformanceError if no candidate could be measured."""
    _Searcher(experiment, search_of(experiment), shell).run()


def search_plan(experiment: Experiment) -> list[Command]:
    """Commands of a first visit and the settings of the search: what its results depend on."""
    search, experiment = search_of(experiment), dataclasses.replace(experiment, parameters=experiment.configured)
    settings = [sys.executable, *(f"{name}={value}" for name, value in to_plain(search).items())]
    script_path = script("run_performance_on_triton.py")
    loads = ([*script_path, *load_options(experiment, search, final=final)] for final in (False, True))
    return [*deploy(experiment), *(make_command("load", load) for load in loads), make_command("settings", settings)]


def apply_choice(experiment: Experiment) -> None:
    """Sets the experiment's parameters to those that its search has chosen. Raises DataError without a choice."""
    experiment.parameters = chosen_in(experiment.folders.results / SEARCH_TABLE).over(experiment.parameters)


def search_of(experiment: Experiment) -> Search:
    """Search settings in the configuration of an experiment."""
    search = experiment.search
    assert search is not None, "without it there is no such stage"
    return search


def space_of(experiment: Experiment) -> Space:
    """Grid around an experiment's configured settings."""
    parameters = experiment.configured
    host = host_of(experiment.server_config.mode, parameters)
    return Space.of(search_of(experiment), parameters, host, usable_cores())


class _Searcher:
    """Search of one experiment: measures the walk's rounds, keeps the results on disk, and decides."""

    def __init__(self, experiment: Experiment, search: Search, shell: Shell) -> None:
        self._experiment = experiment
        self._shell = shell
        self._search = search
        self._space = space_of(experiment)
        self._results = experiment.folders.results
        self._measured: list[MeasuredCandidate] = []
        self._configs: dict[Candidate, str] = {}
        self._asked: Round | None = None
        self._visits = Visits(experiment, search, self._results / FOLDER, self._found, self._progress)

    def run(self) -> None:
        (self._results / FOLDER).mkdir(exist_ok=True)
        self._shell.tell(
            f"  {self._space.size} candidates, p99 of at most {self._search.p99_budget_ms:g} ms, about "
            f"{self._search.minutes:g} minutes; as configured: {self._space.start}"
        )
        rounds = walk(self._space, self._search)
        self._asked = next(rounds)
        while self._asked is not None:
            answer = self._visits.measure(self._asked, self._shell)
            try:
                self._asked = rounds.send(answer)
            except StopIteration:
                self._asked = None
        if not self._measured:
            raise PerformanceError("no candidate of the search could be served and measured: see the logs")
        self._shell.tell(self._decide())

    def _found(self, visit: MeasuredCandidate, config_text: str) -> None:
        self._measured.append(visit)
        self._configs[visit.candidate] = config_text
        self._save(decided=False)

    def _save(self, *, decided: bool) -> None:
        write_search(self._results / SEARCH_TABLE, self._measured, self._search.p99_budget_ms, decided=decided)

    def _decide(self) -> str:
        """Applies the best candidate to the experiment; returns a text about it."""
        verdict = Verdict.of(self._measured, self._space.start, self._search)
        chosen = verdict.chosen.candidate
        self._save(decided=True)
        write_text(self._results / FOLDER / CONFIG, self._configs[chosen])
        self._experiment.parameters = chosen.over(self._experiment.parameters)
        return f"  {verdict.summary}\n  to keep it, write into the experiment's parameters:\n{verdict.yaml}"

    def _progress(self, candidate: Candidate, position: int) -> str:
        """Text about the progress of the search, before a visit."""
        assert self._asked is not None, "a visit belongs to a round"
        left, made = self._asked.visits_left - position, len(self._measured)
        time_left = ""
        if made:
            spent_s = sum(visit.seconds for visit in self._measured)
            left = max(1, min(left, round(made * (60 * self._search.minutes / spent_s - 1))))
            time_left = f"about {spent_s / made * left:.0f} s left, "
        known = best_points(self._measured, self._search.p99_budget_ms)
        best = f"best so far {known[0].throughput:,.0f}/s, p99 {known[0].p99_ms:.0f} ms; " if known else ""
        stage = "final" if self._asked.final else "search"
        return f"  {stage} {made + 1} of at most {made + left}, {time_left}{best}now {candidate}"
