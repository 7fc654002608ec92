"""Options of ``run_performance_on_triton.py --evaluation-mode capacity``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import option
from deployment_toolkit.results.performance import US_PER_MS
from deployment_toolkit.triton_performance_runner.options import RANDOM_DATA, ZERO_DATA, PerformanceOptions

_RUN_BUDGETS = 20
_MS_PER_S = 1000

# Options of the measurement that capacity takes too; of the others only the defaults.
_SHARED = (
    "evaluation_mode",
    "input_data",
    "input_shapes",
    "model_name",
    "model_repository",
    "model_version",
    "result_path",
    "server_url",
    "warmup",  # there is always one
)


@dataclass(frozen=True)
class CapacityOptions:
    """Options of a measurement of capacity. Raises UsageError for values that can't be measured."""

    latency_budget_ms: list[float] = option("capacity: bounds of p99 in ms, each searched", [10.0, 20.0, 50.0])
    rows: list[int] = option("capacity: rows per request, each searched", [1, 32])
    capacity_run_seconds: float = option(
        "capacity: length of a run of LoadGen; it is longer where fewer than 700 requests would be sent", 3.0
    )
    capacity_seconds: float = option(
        "capacity: time for all runs; a search that it ends is said to be unfinished", 300.0
    )

    def __post_init__(self) -> None:
        for name in ("latency_budget_ms", "rows"):
            values = getattr(self, name)
            if not values or min(values) <= 0:
                raise UsageError(f"--{name.replace('_', '-')} needs numbers above 0, not {values}")
        for name in ("capacity_run_seconds", "capacity_seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('_', '-')} must be above 0, not {getattr(self, name)}")
        require_long_runs("--capacity-run-seconds", self.capacity_run_seconds, max(self.latency_budget_ms))

    @property
    def budgets_us(self) -> list[float]:
        """The budgets in microseconds, sorted, each once."""
        return sorted({budget_ms * US_PER_MS for budget_ms in self.latency_budget_ms})


def require_long_runs(name: str, run_seconds: float, longest_budget_ms: float) -> None:
    """Raises UsageError, which names the option, if runs are so short that an overloaded server would seem to hold the
    budget."""
    least = _RUN_BUDGETS * longest_budget_ms / _MS_PER_S
    if run_seconds < least:
        raise UsageError(
            f"{name} {run_seconds:g} is too short for a latency budget of {longest_budget_ms:g} ms: a queue that grows "
            f"would not reach it, use {least:g} or more"
        )


def require_fitting(options: PerformanceOptions, capacity: CapacityOptions) -> None:
    """Raises UsageError for an option of another evaluation mode than the chosen one, which would have no effect."""
    if options.evaluation_mode is not EvaluationMode.CAPACITY:
        for flag in _changed(capacity):
            raise UsageError(f"{flag} belongs to --evaluation-mode capacity: leave it out, or give that mode")
        return
    for flag in _changed(options, but=_SHARED):
        raise UsageError(
            f"{flag} belongs to the other evaluation modes: with --evaluation-mode capacity requests arrive at random, "
            "leave it out (--rows, --latency-budget-ms and --capacity-run-seconds say what is measured)"
        )
    if options.input_data not in (RANDOM_DATA, ZERO_DATA):
        raise UsageError(
            f"--input-data {options.input_data}: with --evaluation-mode capacity this project's client sends the "
            "requests, which takes random, zero or a --dataloader"
        )


def _changed(group: Any, but: Iterable[str] = ()) -> list[str]:
    """Flags of the options that differ from a default."""
    shared = set(but)
    given = {item.name: getattr(group, item.name) for item in fields(group) if item.name not in shared}
    needed = {"model_name": "", "result_path": ""} if isinstance(group, PerformanceOptions) else {}
    default = type(group)(**needed)
    return [f"--{name.replace('_', '-')}" for name, value in given.items() if value != getattr(default, name)]
