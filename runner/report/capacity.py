"""What a report says about capacity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployment_toolkit.results.capacity import (
    BUDGET,
    OFFERED,
    ROWS,
    CapacityRow,
    capacities,
    capacity_cells,
    capacity_markdown,
    client_was_late,
)
from deployment_toolkit.results.capacity_bounds import failing_above, is_lower_bound
from deployment_toolkit.results.capacity_plots import CAPACITY_PLOT, capacity_plots
from deployment_toolkit.results.performance import US_PER_MS
from deployment_toolkit.results.tables import write_csv
from runner.report.results import ExperimentResult, row_count
from runner.stages.capacity import CAPACITY_SUMMARY, LOADGEN_LOGS

CAPACITY_TITLES = {CAPACITY_PLOT: "Latency against the offered rate, and the rate that holds within each budget"}

LOGS_NOTE = " LoadGen's logs are in `{}`."

_NOTE = (
    "Requests arrive at random times (Poisson) at the offered rate, whatever the server does, and a latency counts "
    "from the time the request was due. The capacity is the highest rate at which LoadGen, MLPerf's load generator, "
    "finds 99 % of the latencies within the budget."
)


def capacity_pictures(results: Sequence[ExperimentResult], provenance: str) -> dict[str, bytes]:
    """Picture of the experiments whose capacity was measured, by file name; empty if there are none."""
    measured = {result.title: result.capacity for result in results if result.capacity}
    return capacity_plots(measured, provenance) if measured else {}


def capacity_section(result: ExperimentResult) -> list[str]:
    """Parts of the report on an experiment: the capacity for each budget, then every run of LoadGen; empty if it was
    not measured."""
    if not result.capacity:
        return []
    distant = result.experiment.server_config.distant
    client = (
        f"The server is on another host, {distant}, so the network is a part of the latency."
        if distant
        else "The client shares the host's cores with the server; the tables say how many each of them used."
    )
    logs = (result.folder / LOADGEN_LOGS).relative_to(result.experiment.workspace.run)
    return [
        "### Capacity\n",
        f"{capacity_markdown(result.capacity).rstrip()}\n",
        *_bounds(result.capacity),
        f"{_NOTE} {client}{LOGS_NOTE.format(logs)}\n",
    ]


def _bounds(rows: Sequence[CapacityRow]) -> list[str]:
    """What is to be said of capacities that may be higher than what was found."""
    lines = []
    for held in capacities(rows).values():
        if is_lower_bound(rows, held):
            failing = failing_above(rows, held)
            late = client_was_late(held) or (failing is not None and client_was_late(failing))
            why = "the client sent late and may have been the limit" if late else "the search had no time for its end"
            above = "" if failing is None else f"; {failing[OFFERED]:,.0f} failed"
            lines.append(
                f"- Requests of {row_count(held[ROWS])} within {held[BUDGET] / US_PER_MS:g} ms: at least "
                f"{held[OFFERED]:,.0f} requests/s{above}, but {why}."
            )
    return [f"The capacity may be higher than the rate that holds:\n\n{chr(10).join(lines)}\n"] if lines else []


def write_capacity_summary(results: Sequence[ExperimentResult], folder: Path) -> None:
    """Writes the rows of all experiments, each with the experiment's parameters, if there are any."""
    rows = [{**result.parameters, **capacity_cells(row)} for result in results for row in result.capacity]
    if rows:
        write_csv(folder / CAPACITY_SUMMARY, rows)
