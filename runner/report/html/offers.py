"""What a run found that a deployment can count on: rates within latency budgets, and which experiment to deploy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployment_toolkit.results.capacity import BUDGET, ROWS, SIZING_LOAD, CapacityRow, capacities, sizing
from deployment_toolkit.results.capacity_bounds import is_lower_bound
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, P99, THROUGHPUT, US_PER_MS, peak
from runner.kept_run import ENSEMBLE, KeptExperiment, KeptRun

PASSED = "True"  # in the table of correctness
# Budgets of the demand in milliseconds, where the run measured no capacity.
CLOSED_LOOP_BUDGETS_MS = (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
FULL_PRECISION = "fp32"
_USUAL_ROWS, _USUAL_BUDGET_MS, _USUAL_WISH = 32, 20.0, 100_000.0


@dataclass(frozen=True)
class Offer:
    """A rate that an experiment keeps up: requests of ``rows`` rows with p99 within ``budget_ms``. ``clients`` is the
    concurrency of the closed loop that showed it, 0 for a capacity, where requests arrived at random."""

    experiment: KeptExperiment
    rows: int
    budget_ms: float
    inferences: float
    p99_ms: float
    clients: int = 0
    is_lower_bound: bool = False  # the server may do more than was found

    @property
    def requests(self) -> float:
        """Requests per second."""
        return self.inferences / self.rows

    def servers(self, demand: Wanted) -> int:
        """Servers like the measured one for the demand; that n servers do n times as much is assumed."""
        return sizing(demand.inferences, {THROUGHPUT: self.inferences}, demand.load)


@dataclass(frozen=True)
class Wanted:
    """What is to be served: rows per second, in requests of so many rows, p99 within the budget, each server at the
    share ``load`` of what it could do."""

    rows: int
    budget_ms: float
    inferences: float = _USUAL_WISH
    load: float = SIZING_LOAD


def is_right(experiment: KeptExperiment) -> bool:
    """True if the served answers were compared and all passed."""
    return bool(experiment.correctness) and all(row["passed"] == PASSED for row in experiment.correctness)


def has_capacity(run: KeptRun) -> bool:
    """True if the run measured capacity."""
    return any(experiment.capacity for experiment in run.experiments)


def offers_of(run: KeptRun) -> list[Offer]:
    """Offers of the experiments that answer rightly: capacities; in a run without any, what its closed loops showed."""
    found = [experiment for experiment in run.experiments if is_right(experiment)]
    offers = _capacities if has_capacity(run) else _closed_loops
    return [offer for experiment in found for offer in offers(experiment)]


def budgets_of(run: KeptRun) -> list[float]:
    """Latency budgets that can be asked about, in milliseconds, ascending."""
    measured = {row[BUDGET] / US_PER_MS for experiment in run.experiments for row in experiment.capacity}
    return sorted(measured) or list(CLOSED_LOOP_BUDGETS_MS)


def demand_of(run: KeptRun, offers: Sequence[Offer]) -> Wanted:
    """The demand of the run's configuration (``capacity: sizing``), else 100,000 rows a second in requests of 32 within
    20 ms; where nothing that was measured fits, the next budget for which something does."""
    wish: Mapping[str, Any] = (run.config.get("capacity") or {}).get("sizing") or {}
    sizes = sorted({offer.rows for offer in offers})
    rows = int(wish.get("rows") or (_USUAL_ROWS if not sizes or _USUAL_ROWS in sizes else sizes[-1]))
    budgets = budgets_of(run)
    asked = float(wish.get("latency_budget_ms") or (_USUAL_BUDGET_MS if _USUAL_BUDGET_MS in budgets else budgets[0]))
    fitting = [offer.budget_ms for offer in offers if offer.rows == rows]
    larger = [budget for budget in budgets if budget >= asked and budget in fitting]
    budget = asked if wish.get("latency_budget_ms") or not larger else larger[0]
    wanted, load = wish.get("inferences_per_second"), wish.get("load")
    return Wanted(rows, budget, float(wanted or _USUAL_WISH), float(load or SIZING_LOAD))


def best_for(offers: Sequence[Offer], demand: Wanted) -> dict[str, Offer]:
    """The best offer of each precision that meets the demand's rows and budget, the highest rate first."""
    fitting = [offer for offer in offers if offer.rows == demand.rows and offer.budget_ms <= demand.budget_ms]
    ordered = sorted(fitting, key=lambda offer: -offer.inferences)
    found: dict[str, Offer] = {}
    for offer in ordered:
        found.setdefault(precision_of(offer.experiment), offer)
    return found


def precision_of(experiment: KeptExperiment) -> str:
    """Precision, of an ensemble apart from the network's: it does more work for a row."""
    precision = experiment.parameters["precision"]
    return f"{precision}, {experiment.parameters.get('model', ENSEMBLE)}" if experiment.role else precision


def recommended(run: KeptRun, best: Mapping[str, Offer], *, precision: str = "") -> KeptExperiment | None:
    """Experiment to deploy: of those that answer rightly the one with the best offer, else with the highest throughput
    that was measured; of ``precision`` alone if one is given. A network comes before an ensemble."""
    right = [
        item
        for item in run.experiments
        if is_right(item) and item.parameters["precision"] == (precision or item.parameters["precision"])
    ]
    networks = [experiment for experiment in right if not experiment.role] or right
    for offer in best.values():
        if offer.experiment in networks:
            return offer.experiment
    rates = {id(item): throughput(item) for item in networks}
    fastest = max(networks, key=lambda item: rates[id(item)], default=None)
    return fastest if fastest is not None and rates[id(fastest)] else None


def rate_of(experiment: KeptExperiment, best: Mapping[str, Offer]) -> float:
    """Rows per second that are compared between experiments: of its best offer, or the highest that was measured where
    there are no offers at all; 0 if it has none."""
    own = [offer.inferences for offer in best.values() if offer.experiment is experiment]
    return (own[0] if own else 0.0) if best else throughput(experiment)


def throughput(experiment: KeptExperiment) -> float:
    """Highest measured rows per second: online, or offline where that alone was measured; 0 if neither."""
    best = peak(experiment.online) or peak(experiment.offline)
    return 0.0 if best is None else float(best[THROUGHPUT])


def _capacities(experiment: KeptExperiment) -> Iterator[Offer]:
    for (rows, budget_us), row in capacities(experiment.capacity).items():
        bound = is_lower_bound(experiment.capacity, row)
        rate, p99_ms = float(row[THROUGHPUT]), float(row[P99]) / US_PER_MS
        yield Offer(experiment, rows, budget_us / US_PER_MS, rate, p99_ms, is_lower_bound=bound)


def _closed_loops(experiment: KeptExperiment) -> Iterator[Offer]:
    """For each size of requests and budget the measured point of the highest throughput."""
    for rows in sorted({row[BATCH] for row in experiment.online}):
        for budget_ms in CLOSED_LOOP_BUDGETS_MS:
            fitting = [row for row in experiment.online if row[BATCH] == rows and row[P99] <= budget_ms * US_PER_MS]
            best = peak(fitting)
            if best is not None and best[THROUGHPUT] > 0:
                p99_ms = float(best[P99]) / US_PER_MS
                yield Offer(experiment, rows, budget_ms, float(best[THROUGHPUT]), p99_ms, int(best[CONCURRENCY]))


def unfit(rows: Sequence[CapacityRow]) -> list[tuple[int, float]]:
    """Rows of a request and budgets in milliseconds for which runs were made and no rate held."""
    held = capacities(rows)
    return sorted({(row[ROWS], row[BUDGET] / US_PER_MS) for row in rows if (row[ROWS], row[BUDGET]) not in held})
