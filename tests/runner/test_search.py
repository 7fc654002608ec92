"""Search of serving settings: its rounds over a synthetic surface, its texts, and the stage without a server."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.core import Host
from deployment_toolkit.errors import PerformanceError, ProcessError, UsageError
from deployment_toolkit.results.performance import (
    PERFORMANCE_COLUMNS,
    REFUSED,
    SETTLED,
    WINDOW_LATENCIES,
    WINDOW_RATES,
    PerformanceRow,
    write_performance,
)
from deployment_toolkit.triton_server.remote import TritonServer
from runner.__main__ import read_command_line
from runner.command import Command
from runner.config.run import load_config
from runner.config.search import Search
from runner.experiment import Experiment
from runner.pipeline import stages_of
from runner.report.results import read_results
from runner.report.search import search_plots, search_section
from runner.search.algorithm import Round, walk
from runner.search.results import (
    MeasuredCandidate,
    ServingPoint,
    best_points,
    frontier,
    points,
    read_search,
    write_search,
)
from runner.search.space import Candidate, Space
from runner.search.stage import apply_choice, search_settings
from runner.search.verdict import Verdict
from runner.workspace import create_workspace
from tests.runner.conftest import Plain, RecordingShell, experiment

Surface = Callable[[Candidate, int], tuple[float, float]]  # candidate, concurrency -> inferences/s, p99 in ms
CONFIGURED = Candidate(1, 2, (4096,), 0)


def row(throughput: float, p99_ms: float, concurrency: int = 64) -> PerformanceRow:
    """A performance row."""
    values: dict[str, Any] = {column.name: 1 for column in PERFORMANCE_COLUMNS}
    return values | {
        "Batch": 32,
        "Concurrency": concurrency,
        "Inferences/Second": throughput,
        "p99 latency": 1000 * p99_ms,
        SETTLED: True,
        REFUSED: 0.0,
        WINDOW_RATES: (throughput,),
        WINDOW_LATENCIES: (1000 * p99_ms,),
    }


def surface(candidate: Candidate, concurrency: int) -> tuple[float, float]:
    """Throughput and p99 latency of a candidate. The best within 100 ms is: 2 instances of 1 thread, batches of 512, a
    delay of 1000 us, concurrency 64. Threads and instances depend on each other, as on a real server."""
    busy = candidate.instances * (candidate.threads or 1)
    rate = 20_000 * {1: 0.6, 2: 1.0, 4: 0.85}.get(busy, 0.5)
    rate *= 1.25 if candidate.instances == 2 else 1.0
    rate *= {256: 0.9, 512: 1.15, 1024: 1.05}.get(candidate.preferred_batch_sizes[0], 1.0)
    rate *= {0: 1.0, 1000: 1.04, 4000: 0.95}[candidate.max_queue_delay_us]
    rate *= 1.0 if concurrency == 64 else 0.7
    return rate, 1.3 * 1000 * 32 * concurrency / rate


def ask(
    space: Space, search: Search, of: Surface, *, noise: float = 0.0, seed: int = 0, seconds: float = 10.0
) -> tuple[list[MeasuredCandidate], list[Round]]:
    """Runs a complete search on a surface. Each measurement is off by up to ``noise``, and the surface slows down for
    some time."""
    generator, rounds, measured = random.Random(seed), walk(space, search), list[MeasuredCandidate]()
    asked, seen = next(rounds), list[Round]()
    while True:
        seen.append(asked)
        answer = []
        for candidate in asked.candidates:
            factor = (1 + generator.uniform(-noise, noise)) * (0.8 if noise and 5 <= len(measured) < 9 else 1.0)
            rows = []
            for concurrency in search.concurrency:
                rate, p99_ms = of(candidate, concurrency)
                rows.append(row(rate * factor, p99_ms / factor, concurrency))
            answer.append(MeasuredCandidate(candidate, asked.number, asked.final, tuple(rows), seconds))
            measured.append(answer[-1])
        try:
            asked = rounds.send(answer)
        except StopIteration:
            return measured, seen


@pytest.fixture
def parameters(small_config: Plain, tmp_path: Path) -> Any:
    """Parameters of an experiment that allows large batches."""
    path = tmp_path / "parameters.yaml"
    path.write_text(yaml.safe_dump(small_config | {"configurations": [experiment(max_batch_size=4096)]}))
    return load_config(path).configurations[0].parameters


def test_search_space_depends_on_the_cores_and_the_load(parameters: Any) -> None:
    space = Space.of(Search(), parameters, Host.PYTHON, 2)
    assert space.start == CONFIGURED
    assert space.layouts == ((1, 1), (1, 2), (2, 1), (2, 2))
    assert space.preferred_batch_sizes == (256, 512, 1024, 4096)
    many = Space.of(Search(), parameters, Host.PYTHON, 16)
    assert many.start.layout == (1, 16)
    assert all(8 <= instances * (threads or 0) <= 32 for instances, threads in many.layouts)
    instances, threads, *_ = many.axes(many.start)
    assert {item.layout for item in instances} == {(1, 16), (2, 8), (4, 4), (8, 2), (16, 1)}
    assert {item.layout for item in threads} == {(1, 8), (1, 16)}
    assert Space.of(Search(), parameters, Host.NATIVE, 4).layouts == ((1, None), (2, None), (4, None))
    own = Search(instances=[3], threads=[1, 5], preferred_batch_sizes=[64], max_queue_delays_us=[7])
    space = Space.of(own, dataclasses.replace(parameters, threads=4, number_of_model_instances=2), Host.PYTHON, 2)
    assert (space.start.layout, space.layouts, space.size) == ((2, 4), ((3, 1), (3, 5)), 2)
    assert space.axes(space.start)[1] == [space.start, dataclasses.replace(space.start, preferred_batch_sizes=(64,))]


@pytest.mark.parametrize("seed", range(20))
def test_search_finds_the_best_candidate_under_noise(parameters: Any, seed: int) -> None:
    search = Search()
    space = Space.of(search, parameters, Host.PYTHON, 2)
    measured, rounds = ask(space, search, surface, noise=0.05, seed=seed)
    chosen = Verdict.of(measured, space.start, search).chosen.candidate
    best = max(
        surface(Candidate(*layout, (size,), delay), 64)[0]
        for layout in space.layouts
        for size in space.preferred_batch_sizes
        for delay in space.max_queue_delays_us
    )
    assert surface(chosen, 64)[0] > 0.9 * best > 1.2 * surface(space.start, 64)[0]
    assert sum(visit.seconds for visit in measured) <= 60 * search.minutes
    assert len({visit.candidate for visit in measured}) < space.size / 2, "it is no exhaustive search"
    final = [item for item in rounds if item.final]
    assert len(final) >= 2 and len({item.candidates for item in final}) > 1, "their order changes"
    assert all(space.start in item.candidates and chosen in item.candidates for item in final)


def test_search_rounds_compare_with_the_best_candidate_so_far(parameters: Any) -> None:
    search = Search(minutes=60)
    space = Space.of(search, parameters, Host.PYTHON, 2)
    measured, rounds = ask(space, search, surface)
    assert Verdict.of(measured, space.start, search).chosen.candidate == Candidate(2, 1, (512,), 1000)
    exploring = [item for item in rounds if not item.final]
    for earlier, later in itertools.pairwise(exploring):
        assert set(earlier.candidates) & set(later.candidates)
    assert all(item.visits_left >= len(item.candidates) for item in rounds)
    assert len({visit.candidate for visit in measured}) <= space.size / 3


def test_candidate_over_the_budget_is_not_chosen(parameters: Any) -> None:
    search = Search(p99_budget_ms=60, minutes=60)
    space = Space.of(search, parameters, Host.PYTHON, 2)
    measured, _ = ask(space, search, surface)
    chosen = Verdict.of(measured, space.start, search).chosen
    assert (chosen.concurrency, chosen.p99_ms <= 60) == (16, True)
    assert max(point.throughput for point in points(measured)) > chosen.throughput


def test_budget_that_no_candidate_meets_names_the_nearest(parameters: Any) -> None:
    search = Search(p99_budget_ms=5, minutes=60)
    space = Space.of(search, parameters, Host.PYTHON, 2)
    measured, _ = ask(space, search, surface)
    verdict = Verdict.of(measured, space.start, search)
    assert not verdict.met
    assert verdict.chosen.p99_ms == min(point.p99_ms for point in points(measured))
    assert "NO candidate kept to the budget of 5 ms, this is the nearest to it" in verdict.summary
    assert "No candidate kept to the budget of 5 ms" in verdict.paragraph


def test_search_out_of_time_still_measures_the_final_rounds(parameters: Any) -> None:
    search = Search(minutes=2)
    space = Space.of(search, parameters, Host.PYTHON, 2)
    measured, rounds = ask(space, search, surface, seconds=12)
    assert sum(visit.seconds for visit in measured) <= 60 * 2 + 2 * search.finalists * 12
    assert [item.final for item in rounds].count(True) == 2


def test_candidates_that_cannot_be_measured_are_left_out(parameters: Any) -> None:
    search = Search()
    space = Space.of(search, parameters, Host.PYTHON, 2)
    rounds = walk(space, search)
    next(rounds)
    asked = rounds.send([])  # the whole first axis
    assert space.start in asked.candidates
    with pytest.raises(StopIteration):
        while True:
            rounds.send([])
    measured, _ = ask(space, dataclasses.replace(search, instances=[1], threads=[2], minutes=60), surface)
    assert best_points(measured, 100)


def test_frontier_has_points_that_no_other_beats_in_both_values() -> None:
    slow, middle, worse, fast = (
        ServingPoint(CONFIGURED, number, rate, p99_ms, 1, 0.0)
        for number, (rate, p99_ms) in enumerate([(10, 1), (20, 2), (15, 3), (30, 9)])
    )
    assert frontier([worse, fast, slow, middle]) == [slow, middle, fast]


def test_search_table_is_read_back_and_has_flags(tmp_path: Path) -> None:
    other = Candidate(2, None, (256, 512), 1000)
    visits = [
        MeasuredCandidate(CONFIGURED, 1, False, (row(100, 50, 16), row(150, 120))),
        MeasuredCandidate(other, 1, False, (row(90, 60, 16), row(200, 90))),
        MeasuredCandidate(other, 2, True, (row(95, 60, 16), row(210, 95))),
        MeasuredCandidate(CONFIGURED, 2, True, (row(100, 50, 16), row(150, 120))),
    ]
    path = tmp_path / "search.csv"
    write_search(path, visits[:2], 100, decided=False)
    assert read_search(path) == (visits[:2], False)
    write_search(path, visits, 100, decided=True)
    assert read_search(path) == (visits, True)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    flags = [tuple(line[-3:]) for line in lines]
    assert flags[0] == ("Within budget", "Frontier", "Chosen")
    assert flags[1:] == [
        ("yes", "yes", "no"), ("no", "no", "no"), ("yes", "no", "yes"), ("yes", "yes", "yes"),
        ("yes", "no", "yes"), ("yes", "yes", "yes"), ("yes", "yes", "no"), ("no", "no", "no"),
    ]  # fmt: skip


def test_verdict_names_the_runner_up_and_the_noise() -> None:
    other = Candidate(2, 1, (512,), 1000)
    visits = [
        MeasuredCandidate(candidate, number, True, (row(rate, 80),))
        for candidate, rates in ((CONFIGURED, (900, 1000, 1100)), (other, (1200, 1250, 1300)))
        for number, rate in enumerate(rates)
    ]
    verdict = Verdict.of(visits, CONFIGURED, Search(concurrency=[64]))
    assert verdict.yaml.split() == (
        [
            "number_of_model_instances:",
            "2",
            "threads:",
            "1",
            "preferred_batch_sizes:",
            "[512]",
            "max_queue_delay_us:",
            "1000",
        ]
    )
    told = verdict.paragraph
    assert "**2 instances, 1 thread, batch 512 preferred, queue delay 1000 us**, 1,250 inferences/s" in told
    assert "Runner-up: 1 instance, 2 threads" in told and "20.0 % less" in told
    assert "differed by up to 20.0 % between its 3 visits" in told and "can't be told apart" in told


def test_candidate_that_refuses_more_than_one_request_in_a_hundred_is_not_in_time() -> None:
    other = Candidate(2, 1, (512,), 0)
    fast = {**row(2000, 50), REFUSED: 30.0}
    visits = [MeasuredCandidate(CONFIGURED, 1, True, (row(1000, 80),)), MeasuredCandidate(other, 1, True, (fast,))]
    verdict = Verdict.of(visits, CONFIGURED, Search(concurrency=[64]))
    assert verdict.chosen.candidate == CONFIGURED and verdict.met
    assert "1.5 % refused), which is over the budget" in verdict.paragraph
    alone = Verdict.of(visits[1:], CONFIGURED, Search(concurrency=[64]))
    assert not alone.met


def test_limited_queue_is_searched_without_delays(parameters: Any) -> None:
    limited = dataclasses.replace(parameters, latency_budget_ms=100.0)
    assert Space.of(Search(), limited, Host.PYTHON, 2).max_queue_delays_us == (0,)
    assert Space.of(Search(), parameters, Host.PYTHON, 2).max_queue_delays_us == (0, 1000, 4000)


class _Served(RecordingShell):
    """A mock of the server and of perf_analyzer. It executes the commands of the stage on a surface. Commands at the
    positions ``fails``, counted from 1, fail; the command after ``most`` is interrupted."""

    def __init__(self, made: Experiment, fails: Sequence[int] = (), most: int | None = None) -> None:
        super().__init__()
        self._made, self._fails, self._most = made, fails, most
        self._settings: Any = {}

    @property
    def names(self) -> list[str]:
        return [command.name for command in self.commands]

    def run(self, command: Command) -> None:
        if len(self.commands) == self._most:
            raise KeyboardInterrupt
        super().run(command)
        if len(self.commands) in self._fails:
            raise ProcessError("out of memory", returncode=1)
        if command.name.endswith("deploy"):
            self._deploy(command.argv)
        else:
            self._measure(command.argv)

    def _deploy(self, argv: Sequence[str]) -> None:
        words = list(argv)

        def after(flag: str, default: str = "0") -> str:
            return words[words.index(flag) + 1] if flag in words else default

        flags = ("--engine-count-per-device", "--triton-backend-parameters")
        instances, threads = (after(flag).partition("=")[2] for flag in flags)
        self._settings = Candidate(
            int(instances),
            int(threads or 2),
            (int(after("--preferred-batch-sizes")),),
            int(after("--max-queue-delay-us")),
        )
        config = self._made.folders.model_store / "WidenDeep" / "config.pbtxt"
        config.parent.mkdir(exist_ok=True)
        config.write_text(str(self._settings))

    def _measure(self, argv: Sequence[str]) -> None:
        path = Path(argv[-1])
        write_performance(path, [row(*surface(self._settings, number), number) for number in (16, 64)])


@pytest.fixture
def made(small_config: Plain, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment with a search and a ready server."""
    path = tmp_path / "config.yaml"
    keys = {"configurations": [experiment(max_batch_size=4096)], "search": {"instances": [1, 2], "threads": [1, 2]}}
    path.write_text(yaml.safe_dump(small_config | keys))
    workspace = create_workspace(tmp_path / "workspace")
    item = Experiment.create(load_config(path), 1, workspace, ())
    item.server = TritonServer(http_url="http://127.0.0.1:1", grpc_url="grpc://127.0.0.1:2")
    yield item


def test_search_stage_sets_the_chosen_parameters(made: Experiment) -> None:
    assert [stage.name for stage in stages_of(made)][:4] == ["export", "convert", "search", "deploy"]
    served = _Served(made, fails=[3, 6])
    search_settings(made, served)
    folder = made.folders.results
    assert served.names[:3] == ["search_01_deploy", "search_01_performance", "search_02_deploy"]
    assert sum("left out, it could not be served or measured" in line for line in served.told) == 2
    chosen = Candidate(2, 1, (512,), 1000)
    assert made.parameters == chosen.over(made.configured)
    assert (folder / "search" / "config.pbtxt").read_text() == str(chosen)
    assert "best so far" in served.told[-2] and "s left" in served.told[-2]
    assert "chosen: 2 instances, 1 thread, batch 512 preferred" in served.told[-1]
    assert "    preferred_batch_sizes: [512]" in served.told[-1]
    (result,) = read_results(made, [])
    assert result.searched and result.parameters["threads"] == "1"


def test_interrupted_search_keeps_and_reports_its_measurements(made: Experiment) -> None:
    with pytest.raises(KeyboardInterrupt):
        search_settings(made, _Served(made, most=5))
    (result,) = read_results(made, [])
    assert (len(result.search), result.searched) == (2, False)
    assert made.parameters == made.configured
    assert "The search ended before it came to a choice.\n" in search_section(result)
    assert search_plots([result], "a host")["search_1.png"].startswith(b"\x89PNG")


def test_interrupted_search_goes_on_with_the_visits_that_it_lacks(made: Experiment) -> None:
    with pytest.raises(KeyboardInterrupt):
        search_settings(made, _Served(made, most=7))
    folder = made.folders.results / "search"
    (folder / "03.json").write_text("{")  # as if it had been killed before the visit was complete
    kept = [(folder / f"{number}.csv").stat().st_mtime_ns for number in ("01", "02")]
    served = _Served(made)
    search_settings(made, served)
    assert served.names[:2] == ["search_03_deploy", "search_03_performance"]
    assert sum("measured before, and kept: " in line for line in served.told) == 2
    assert [(folder / f"{number}.csv").stat().st_mtime_ns for number in ("01", "02")] == kept
    chosen = made.parameters
    assert (result := read_results(made, [])[0]).searched and len(result.search) == 2 + len(served.names) // 2
    made.parameters = made.configured
    apply_choice(made)
    assert made.parameters == chosen != made.configured


def test_search_without_any_candidate_is_an_error(made: Experiment) -> None:
    with pytest.raises(PerformanceError, match="no candidate of the search could be served"):
        search_settings(made, _Served(made, fails=range(1, 999)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"search": {"p99_budget": 3}}, "unknown key p99_budget, did you mean p99_budget_ms?"),
        ({"search": {"p99_budget_ms": 0}}, "p99_budget_ms must be above 0"),
        ({"search": {"finalists": 1}}, "finalists must be at least 2"),
        ({"search": {"instances": []}}, "instances needs whole numbers from 1 on"),
        ({"search": {"rows_per_request": 65}}, "rows_per_request 65 is above max_batch_size 64"),
        ({"search": {}, "batching": "static"}, "search tunes dynamic batching, this run's batching is static"),
        (
            {"search": {"threads": [1]}, "configurations": [experiment(host="auto")]},
            "search: threads are told to a host of this project, not to auto",
        ),
    ],
)
def test_impossible_search_is_refused(small_config: Plain, tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | keys))
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert message in str(caught.value)


def test_search_option_selects_experiments(small_config: Plain, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | {"configurations": [experiment(), experiment()]}))
    command = ["--config-path", str(path)]

    def searched(*options: str) -> list[int]:
        config, numbers, _ = read_command_line([*command, *options])
        return [number for number in numbers if config.searches(number)]

    assert (searched(), searched("--search"), searched("--search", "2")) == ([], [1, 2], [2])
    assert searched("--experiments", "2", "--search") == [2]
    path.write_text(yaml.safe_dump(small_config | {"search": {"experiments": [1], "minutes": 1}}))
    assert searched() == [1]
    with pytest.raises(UsageError, match="--search 2: this run has the experiments 1"):
        read_command_line([*command, "--search", "2"])
