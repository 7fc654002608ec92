"""Campaign of the comparison: every system with every model file, in several passes, so that a slow minute of the
machine does not affect only one system."""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.deployment import PeerDeployment, PerfPoints
from benchmarks.peers.environments import make_environment
from benchmarks.peers.load import Load, post
from benchmarks.peers.peer import Peer
from benchmarks.peers.results import OWN, PACKED, Cell, Failure, Run
from benchmarks.peers.running import running_peer
from benchmarks.peers.sample import BodyFiles, Sample, write_bodies
from benchmarks.peers.served import Served
from benchmarks.peers.wire import Wire
from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DeploymentError, PerformanceError
from deployment_toolkit.process_memory import tree_memory
from deployment_toolkit.progress import progress_bar
from deployment_toolkit.triton_performance_runner.shared_memory import machine_to_itself

logger = logging.getLogger("peers")

_IDLE_TIMEOUT_S = 20
_MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """Plan: each system ``passes`` times with each model, each cell for ``seconds`` after ``warmup_s``, or longer,
    until every connection has several answers. ``tolerance`` is, by model, the largest accepted difference of a
    probability from the framework's."""

    deployments: Sequence[PeerDeployment]
    peers: Sequence[Peer]
    cells: Sequence[Cell]
    passes: int
    seconds: float
    warmup_s: float
    tolerance: Mapping[str, float]
    perf_analyzer: bool


Keep = Callable[["CampaignOutcome"], None]


@dataclass
class CampaignOutcome:
    """Results of a campaign so far."""

    runs: list[Run]
    failures: list[Failure]
    perf: dict[tuple[str, str], PerfPoints]


class Campaign:
    """Runs of a plan; ``folder`` is for bodies and logs, ``environments`` for the peers' virtual environments.

    ``done`` are measurements of an earlier campaign that are kept: a system that has all cells of a pass there is not
    measured in that pass.
    """

    def __init__(
        self, plan: Plan, sample: Sample, wrk: str, folder: Path, environments: Path, done: Sequence[Run] = ()
    ) -> None:
        self._plan, self._sample, self._wrk = plan, sample, wrk
        self._folder, self._environments = folder, environments
        self._bodies: dict[tuple[str, int], BodyFiles] = {}
        kept = _whole_passes(done, plan.cells)
        self._done = {(run.model, run.system, run.attempt) for run in kept}
        self._outcome = CampaignOutcome(kept, [], {})

    def run(self, keep: Keep) -> CampaignOutcome:
        """Measures everything; ``keep`` is called after each system, so that an interruption loses no measurement. A
        system that can't be installed or started, or doesn't answer, is a failure with its reason."""
        plan = self._plan
        pythons = self._install()
        systems = len(plan.deployments) * plan.passes * (len(OWN) + len(pythons))
        with progress_bar("peers", systems * len(plan.cells) - len(self._outcome.runs), " cells") as bar:
            for attempt in range(1, plan.passes + 1):
                for deployment in plan.deployments:
                    for own in OWN:
                        self._measure_ours(own, deployment, attempt, bar.update)
                        keep(self._outcome)
                    for peer, python in pythons.items():
                        self._measure_peer(peer, python, deployment, attempt, bar.update)
                        keep(self._outcome)
        return self._outcome

    def _install(self) -> dict[Peer, Path]:
        pythons = {}
        for peer in self._plan.peers:
            logger.info("environment of %s", peer.title)
            try:
                pythons[peer] = make_environment(peer.requirements, self._environments / peer.name)
            except PerformanceError as error:
                for deployment in self._plan.deployments:
                    self._fail(deployment.name, peer.title, error)
        return pythons

    def _measure_ours(self, own: str, deployment: PeerDeployment, attempt: int, tick: Callable[[], object]) -> None:
        if (deployment.name, own, attempt) in self._done:
            return
        with self._failing(deployment.name, own, attempt):
            log = self._folder / f"{deployment.format}_server.log"
            with deployment.running(log, packed=own == PACKED) as (served, server):
                self._measure(served, deployment.name, own, attempt, tick)
                if self._plan.perf_analyzer and attempt == 1:
                    served.wait_idle(_IDLE_TIMEOUT_S)
                    rows = sorted({cell.rows for cell in self._plan.cells})
                    concurrency = sorted({cell.concurrency for cell in self._plan.cells})
                    csv = self._folder / "perf_analyzer.csv"
                    points = deployment.perf_analyzer(server, self._rows, rows, concurrency, csv)
                    self._outcome.perf[deployment.name, own] = points

    def _measure_peer(
        self, peer: Peer, python: Path, deployment: PeerDeployment, attempt: int, tick: Callable[[], object]
    ) -> None:
        if any((item.model, item.system) == (deployment.name, peer.title) for item in self._outcome.failures):
            return
        if (deployment.name, peer.title, attempt) in self._done:
            return
        with self._failing(deployment.name, peer.title, attempt):
            log = self._folder / f"{peer.name}.log"
            with running_peer(peer, python, deployment.model, log) as served:
                self._measure(served, deployment.name, peer.title, attempt, tick)

    def _measure(self, served: Served, model: str, system: str, attempt: int, tick: Callable[[], object]) -> None:
        plan = self._plan
        sizes = sorted({cell.rows for cell in plan.cells})
        difference = max(served.largest_difference(self._sample, rows) for rows in sizes)
        if difference > plan.tolerance[model]:
            raise PerformanceError(
                f"it answers wrongly: a probability differs by {difference:.2g} from the framework's, "
                f"{plan.tolerance[model]:g} is allowed"
            )
        with machine_to_itself():
            for cell in plan.cells:
                self._post(served, cell, plan.warmup_s)
                load, memory_mib = self._post(served, cell, plan.seconds)
                if load.seconds_needed > math.ceil(plan.seconds):
                    load, memory_mib = self._post(served, cell, load.seconds_needed)
                if not load.requests:
                    raise PerformanceError(f"it answered none of {cell} in {load.seconds:.0f} s, {load.errors} errors")
                self._outcome.runs.append(
                    Run(
                        model=model,
                        system=system,
                        attempt=attempt,
                        rows=cell.rows,
                        concurrency=cell.concurrency,
                        request_bytes=self._body_files(served.wire, cell.rows).mean_bytes,
                        rows_per_s=load.rows_per_s,
                        p50_ms=load.p50_ms,
                        p99_ms=load.p99_ms,
                        requests=load.requests,
                        errors=load.errors,
                        memory_mib=memory_mib,
                        largest_difference=difference,
                    )
                )
                tick()

    def _post(self, served: Served, cell: Cell, seconds: float) -> tuple[Load, float]:
        """Posts a cell's load; returns the result and the server's memory in MiB when the server is idle again."""
        load = post(
            self._wrk,
            served.url,
            self._body_files(served.wire, cell.rows),
            rows=cell.rows,
            concurrency=cell.concurrency,
            seconds=seconds,
            log=self._folder / "wrk.log",
        )
        memory_mib = tree_memory(served.pid).pss_bytes / _MIB
        served.wait_idle(_IDLE_TIMEOUT_S)
        return load, memory_mib

    def _body_files(self, wire: Wire, rows: int) -> BodyFiles:
        key = (wire.title, rows)
        if key not in self._bodies:
            folder = Path(tempfile.mkdtemp(prefix="bodies_", dir=self._folder))
            self._bodies[key] = write_bodies(self._sample, wire, rows, folder)
        return self._bodies[key]

    def _rows(self) -> Iterator[tuple[Array, Arrays, Arrays]]:
        yield np.arange(len(self._sample.probabilities)), dict(self._sample.x), {}

    @contextlib.contextmanager
    def _failing(self, model: str, system: str, attempt: int) -> Iterator[None]:
        try:
            yield
        except DeploymentError as error:
            self._fail(model, system, error, attempt)

    def _fail(self, model: str, system: str, error: DeploymentError, attempt: int | None = None) -> None:
        reason = " ".join(str(error).split())
        logger.error("%s with %s: %s", system, model, reason)
        self._outcome.failures.append(Failure(model, system, reason, attempt))


def _whole_passes(runs: Sequence[Run], cells: Sequence[Cell]) -> list[Run]:
    """Measurements of the systems' passes that have all cells."""
    measured = Counter((run.model, run.system, run.attempt) for run in runs if run.cell in cells)
    return [run for run in runs if measured[run.model, run.system, run.attempt] == len(cells)]
