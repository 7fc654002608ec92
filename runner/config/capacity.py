"""The key ``capacity`` of a run: which rates are looked for, how long, and for how many rows a second servers are
counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from deployment_toolkit.capacity.options import require_long_runs
from deployment_toolkit.core import Batching
from deployment_toolkit.errors import UsageError
from runner.config.experiment import Parameters

USUAL_ROWS = (1, 32)
_USUAL_BUDGETS_MS = (10.0, 20.0, 50.0)
_USUAL_BUDGET_MS = 20.0
# With 5 % more requests than the server can answer, the last of so long a run wait for the whole budget.


@dataclass(frozen=True)
class SizingConfig:
    """Demand for which servers are counted: ``inferences_per_second`` rows a second in requests of ``rows`` rows, the
    99th percentile of the latency at most ``latency_budget_ms``, each server at ``load`` (a share) of its capacity.

    ``rows`` None: 32 if that was measured, else the most that was; ``latency_budget_ms`` None: 20 if that is measured,
    else the first of the budgets.
    """

    inferences_per_second: float = 100_000.0
    rows: int | None = None
    latency_budget_ms: float | None = None
    load: float = 0.6

    def __post_init__(self) -> None:
        for name in ("inferences_per_second", "load"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name):g}")
        if self.load > 1:
            raise UsageError(f"load is a share of a server's capacity, at most 1, not {self.load:g}")

    def rows_of(self, measured: Sequence[int]) -> int:
        """Rows per request that are meant, if ``measured`` are those that were measured."""
        return self.rows or (USUAL_ROWS[-1] if not measured or USUAL_ROWS[-1] in measured else max(measured))


@dataclass(frozen=True)
class CapacityConfig:
    """Measurement of each experiment's capacity: the highest rate of requests of so many ``rows``, which arrive at
    random, at which the 99th percentile of the latency stays within each of ``latency_budgets_ms``.

    ``rows`` None: 1 and 32, as far as the largest batch allows. A rate is tried for ``run_seconds``, longer where few
    requests would be sent; all rates of a model take about ``seconds`` at most.
    """

    latency_budgets_ms: list[float] = field(default_factory=lambda: list(_USUAL_BUDGETS_MS))
    rows: list[int] | None = None
    run_seconds: float = 3.0
    seconds: float = 120.0
    sizing: SizingConfig = field(default_factory=SizingConfig)

    def __post_init__(self) -> None:
        _require_different("latency_budgets_ms", self.latency_budgets_ms)
        if self.rows is not None:
            _require_different("rows", self.rows)
        for name in ("run_seconds", "seconds"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name):g}")
        require_long_runs("run_seconds", self.run_seconds, max(self.latency_budgets_ms))
        wanted, budget = self.sizing.rows, self.sizing.latency_budget_ms
        if wanted is not None and wanted not in (self.rows or USUAL_ROWS):
            raise UsageError(f"sizing: rows {wanted} is not measured: add it to rows, or leave it out")
        if budget is not None and budget not in self.latency_budgets_ms:
            raise UsageError(
                f"sizing: latency_budget_ms {budget:g} is not measured: add it to latency_budgets_ms, or leave it out"
            )

    @property
    def sizing_budget_ms(self) -> float:
        """Latency budget of the sizing."""
        budgets = self.latency_budgets_ms
        return self.sizing.latency_budget_ms or (_USUAL_BUDGET_MS if _USUAL_BUDGET_MS in budgets else budgets[0])

    def rows_for(self, parameters: Parameters, batching: Batching) -> list[int]:
        """Rows per request that are measured of an experiment, each once, ascending."""
        if self.rows is not None:
            return sorted(self.rows)
        largest = 1 if batching is Batching.DISABLED else parameters.max_batch_size
        return sorted({min(rows, largest) for rows in USUAL_ROWS})

    def problems(self, parameters: Parameters, batching: Batching) -> Iterator[str]:
        """Reasons why the capacity of an experiment can't be measured like this."""
        rows = max(self.rows_for(parameters, batching))
        if rows > parameters.max_batch_size:
            yield f"capacity: rows {rows} is above max_batch_size {parameters.max_batch_size}"
        elif rows > 1 and batching is Batching.DISABLED:
            yield f"capacity: rows {rows}, but with batching disabled a request has 1 row"


def _require_different(name: str, values: Sequence[float]) -> None:
    """Raises UsageError unless there are values, all above 0, each once."""
    if not values or min(values) <= 0:
        raise UsageError(f"{name} needs numbers above 0, not {values}")
    if len(set(values)) < len(values):
        raise UsageError(f"{name} holds {max(values, key=list(values).count):g} twice")
