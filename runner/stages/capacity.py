"""The stage that measures capacity: the highest rate of requests at random times that a model answers in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.command import Command, make_command, script
from runner.experiment import Experiment
from runner.stages.network import Stage, in_order

CAPACITY_TABLE = "triton_performance_capacity.csv"
CAPACITY_SUMMARY = "triton_performance_capacity_summary.csv"
LOADGEN_LOGS = "loadgen"  # the folder beside the table
_LEAST_RUNS = 8  # for each number of rows; a search of fewer finds nothing


def capacity_command(
    experiment: Experiment, name: str, model_name: str, rows: Sequence[object], folder: Path
) -> Command:
    """A model of the server under requests that arrive at random over HTTP, whose client is the lighter one; results
    and LoadGen's logs go into ``folder``."""
    config, server = experiment.capacity, experiment.running_server
    assert config is not None, "without it there is no such stage"
    sizes, seconds = config.rows_for(experiment.parameters, experiment.batching), config.seconds
    if experiment.sweep_s is not None:
        seconds = min(seconds, max(experiment.sweep_s, _LEAST_RUNS * config.run_seconds * len(sizes)))
    argv = [
        *script("run_performance_on_triton.py", "--server-url", server.http_url),
        *experiment.server_config.client_options,
        *("--model-name", model_name, *rows, "--evaluation-mode", "capacity"),
        *("--latency-budget-ms", *(f"{budget:g}" for budget in config.latency_budgets_ms)),
        *("--rows", *sizes),
        *("--capacity-run-seconds", f"{config.run_seconds:g}", "--capacity-seconds", f"{seconds:.1f}"),
        *("--result-path", folder / CAPACITY_TABLE),
    ]
    return make_command(name, argv, experiment.server_config.client_variables)


def performance_capacity(experiment: Experiment) -> list[Command]:
    """Requests at random times at rates up to beyond what the network holds within each latency budget."""
    rows = experiment.network.row_arguments(experiment.parameters.max_batch_size)
    model, folder = experiment.names.network, experiment.folders.results
    return [capacity_command(experiment, "performance_capacity", model, rows, folder)]


PERFORMANCE_CAPACITY = Stage(
    "performance capacity", in_order(performance_capacity), needs_server=True, measures=True, parts=2
)
