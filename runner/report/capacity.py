"""What a report says about capacity."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployment_toolkit.results.capacity import capacity_cells, capacity_markdown
from deployment_toolkit.results.capacity_plots import CAPACITY_PLOT, capacity_plots
from deployment_toolkit.results.tables import write_csv
from runner.report.results import ExperimentResult
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
        f"{_NOTE} {client}{LOGS_NOTE.format(logs)}\n",
    ]


def write_capacity_summary(results: Sequence[ExperimentResult], folder: Path) -> None:
    """Writes the rows of all experiments, each with the experiment's parameters, if there are any."""
    rows = [{**result.parameters, **capacity_cells(row)} for result in results for row in result.capacity]
    if rows:
        write_csv(folder / CAPACITY_SUMMARY, rows)
