"""How many servers a demand takes, from the measured capacity of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployment_toolkit.results.capacity import (
    BUDGET,
    OFFERED,
    ROWS,
    CapacityRow,
    capacities,
    sizing,
)
from deployment_toolkit.results.capacity_bounds import is_lower_bound
from deployment_toolkit.results.performance import P99, THROUGHPUT, US_PER_MS, markdown_table
from runner.config.capacity import CapacityConfig
from runner.records import StageState
from runner.report.results import AT_LEAST, ExperimentResult, row_count, shown_rate
from runner.stages.capacity import PERFORMANCE_CAPACITY

_ASSUMPTION = "n servers take n times as much as one"
_NOTE = (
    f"It is assumed that {_ASSUMPTION}, as long as requests are spread evenly over them and nothing that they share, "
    "as a network, is a limit. The rest of a server's capacity is for peaks, and for the failure of another server.\n"
)
_BOUND_NOTE = (
    f"{AT_LEAST}: the capacity may be higher than the rate that was found, as the experiment's section says; then "
    "fewer servers do.\n"
)


@dataclass(frozen=True)
class Need:
    """Servers that the demand takes with the best experiment of a precision. ``row`` is that experiment's capacity;
    None, and ``reason`` says why, if no experiment of the precision can be planned with."""

    name: str
    best: ExperimentResult
    row: CapacityRow | None
    servers: int
    reason: str = ""

    @property
    def cells(self) -> dict[str, str]:
        """Its line in a table."""
        row = self.row
        return {
            "precision": self.name,
            "best experiment": "none" if row is None else self.best.title,
            "capacity of one server (inferences/s)": "-" if row is None else shown_rate(self.best.capacity, row),
            "p99 latency (ms)": "-" if row is None else f"{row[P99] / US_PER_MS:.2f}",
            "servers": self._count,
        }

    @property
    def line(self) -> str:
        """Its line for a terminal."""
        told = self.reason
        if self.row is not None:
            told = f"{self.best.title}, {shown_rate(self.best.capacity, self.row)} inferences/s each"
        return f"{self.name}: {self._count} ({told})"

    @property
    def _count(self) -> str:
        """The servers; at most so many, if one may do more than was measured."""
        if self.row is None:
            return "-"
        return f"{'≤ ' if is_lower_bound(self.best.capacity, self.row) else ''}{self.servers:,}"


@dataclass(frozen=True)
class Demand:
    """Inferences per second in requests of ``rows`` rows, p99 at most ``budget_ms``, each server at the share ``load``
    of its capacity."""

    inferences_per_second: float
    rows: int
    budget_ms: float
    load: float

    @classmethod
    def of(cls, config: CapacityConfig, results: Sequence[ExperimentResult]) -> Demand:
        """The demand of a configuration."""
        measured = [row[ROWS] for result in results for row in result.capacity]
        wanted = config.sizing
        return cls(wanted.inferences_per_second, wanted.rows_of(measured), config.sizing_budget_ms, wanted.load)

    def __str__(self) -> str:
        return (
            f"{self.inferences_per_second:,.0f} inferences/s in requests of {row_count(self.rows)} at p99 ≤ "
            f"{self.budget_ms:g} ms, each server at {self.load * 100:g} % of its capacity"
        )

    def needs(self, results: Sequence[ExperimentResult]) -> list[Need]:
        """Servers by precision, an ensemble's apart, in the order of the experiments."""
        groups: dict[str, list[ExperimentResult]] = {}
        for result in results:
            precision, names = str(result.experiment.parameters.precision), result.experiment.names
            name = precision if result.model_name == names.network else f"{precision}, {result.model_name}"
            groups.setdefault(name, []).append(result)
        return [self._need(name, group) for name, group in groups.items()]

    def _need(self, name: str, group: Sequence[ExperimentResult]) -> Need:
        key = self.rows, self.budget_ms * US_PER_MS
        held = [(result, row) for result in group if (row := capacities(result.capacity).get(key)) is not None]
        if held:
            best, row = max(held, key=lambda item: float(item[1][THROUGHPUT]))
            return Need(name, best, row, sizing(self.inferences_per_second, row, self.load))
        return Need(name, group[0], None, 0, "; ".join(f"{result.title}: {self._why_not(result)}" for result in group))

    def _why_not(self, result: ExperimentResult) -> str:
        rows = [row for row in result.capacity if row[ROWS] == self.rows and row[BUDGET] == self.budget_ms * US_PER_MS]
        if rows:
            least = min(rows, key=lambda row: float(row[OFFERED]))
            return (
                f"no measured rate holds; at the lowest, {least[OFFERED]:,.0f} requests/s, p99 was "
                f"{least[P99] / US_PER_MS:.1f} ms"
            )
        if result.capacity:
            return f"requests of {row_count(self.rows)} were not measured at this budget"
        states = [str(record.state) for record in result.records if record.name.endswith(PERFORMANCE_CAPACITY.name)]
        if states and states[-1] in (StageState.OK, StageState.REUSED):
            return "no rate was tried, capacity needs more `seconds`"
        return f"{PERFORMANCE_CAPACITY.name} {states[-1] if states else 'not run'}"


def sizing_section(config: CapacityConfig | None, results: Sequence[ExperimentResult]) -> list[str]:
    """Parts of the report: servers for the best experiment of each precision; empty if capacity was not asked for."""
    if config is None:
        return []
    demand = Demand.of(config, results)
    needs = demand.needs(results)
    table = markdown_table([need.cells for need in needs])
    reasons = [f"- No server can be counted for {need.name}: {need.reason}.\n" for need in needs if need.row is None]
    bound = [_BOUND_NOTE] if AT_LEAST in table else []
    return ["## Sizing\n", f"Servers of the measured size for {demand}:\n", table, *reasons, *bound, _NOTE]


def sizing_lines(config: CapacityConfig | None, results: Sequence[ExperimentResult]) -> str:
    """The same for a terminal; empty if capacity was not asked for."""
    if config is None:
        return ""
    demand = Demand.of(config, results)
    lines = [f"servers for {demand} (assumed: {_ASSUMPTION}):", *(f"  {need.line}" for need in demand.needs(results))]
    return "\n".join(lines)
