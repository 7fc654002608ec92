"""Commands that ask a model of the server: its answers, their comparison, its speed.

Source of the batch sizes and concurrencies: the runner of NVIDIA DeepLearningExamples,
TensorFlow2/Recommendation/WideAndDeep/triton, which for a maximum batch of 131072, 2 instances, 8 offline and 32 online
steps gives batch 1, 16384 … 131072, and concurrency 8 … 256 at batch 2048.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Accelerator, Batching, EvaluationMode
from deployment_toolkit.results.left_out import read_left_out
from deployment_toolkit.rows.request_sizes import request_sizes
from deployment_toolkit.triton_performance_runner.options import MeasurementMode
from deployment_toolkit.triton_server.docker import server_user
from runner.command import Command, make_command, script
from runner.config.experiment import TritonLaunchMode
from runner.config.hosting import is_reduced
from runner.config.parts import Correctness, MeasurementConfig
from runner.experiment import Experiment

LEFT_OUT = "left out by the time budget"
WORST_ROWS = "worst_rows.csv"  # beside the table of correctness
TRANSPORTS = {
    "grpc_async": ("grpc", []),
    "grpc_sync": ("grpc", ["--synchronous"]),
    "http_async": ("http", []),
    "http_sync": ("http", ["--synchronous"]),
}


def inference_command(
    experiment: Experiment, name: str, model_name: str, transport: str, rows: Sequence[object], dump: Path
) -> Command:
    """A data set through a model of the server, in requests of many sizes, into a dump."""
    protocol, flags = TRANSPORTS[transport]
    server = experiment.running_server
    argv = [
        *script("run_inference_on_triton.py"),
        *("--server-url", server.grpc_url if protocol == "grpc" else server.http_url),
        *experiment.server_config.client_options,
        *("--model-name", model_name, "--model-version", "1", *flags),
        *rows,
        *_request_rows(experiment),
        *("--output-dir", dump, "--dump-labels"),
    ]
    return make_command(name, argv, experiment.server_config.client_variables)


def _request_rows(experiment: Experiment) -> list[object]:
    """Sizes of the requests. An error in one size shows in no other, so many are asked; but not where TensorRT inside
    another backend compiles the model for each size anew, in minutes."""
    parameters = experiment.parameters
    if parameters.backend_accelerator is Accelerator.TRT:
        return []
    return ["--request-rows", *request_sizes(parameters.max_batch_size)]


def gate_command(experiment: Experiment, name: str, reference: Path, served: Sequence[Path], csv: Path) -> Command:
    """Dumps of a served model against that of the framework."""
    argv = [
        *script("check_correctness.py", *experiment.network.metrics_arguments(), "--reference-dump-dir", reference),
        *(part for dump in served for part in ("--dump-dir", dump)),
        *_limits(experiment.correctness, reduced=is_reduced(experiment.parameters)),
        *("--csv", csv, "--worst-rows-csv", csv.with_name(WORST_ROWS)),
    ]
    return make_command(name, argv, experiment.server_config.client_variables)


def _limits(limits: Correctness, *, reduced: bool) -> list[object]:
    tolerance = (limits.reduced_precision_atol, 0) if reduced else (limits.atol, limits.rtol)
    largest = limits.largest_losses(reduced=reduced)
    losses = (part for name, loss in largest.items() for part in ("--max-metric-loss", f"{name}={loss}"))
    optional = [name for name in limits.only_if_defined if name in largest]
    return ["--atol", tolerance[0], "--rtol", tolerance[1], *losses, *(("--if-defined", *optional) if optional else ())]


def offline_sweep(experiment: Experiment) -> MeasurementPoints:
    """Points that an experiment measures with one request at a time."""
    return offline_points(experiment.parameters.max_batch_size, experiment.sweeps.steps_offline, experiment.batching)


def online_sweep(experiment: Experiment) -> MeasurementPoints:
    """Points that an experiment measures with many requests at once."""
    parameters, instances = experiment.parameters, experiment.parameters.number_of_model_instances
    return online_points(parameters.max_batch_size, instances, experiment.sweeps.steps_online, experiment.batching)


def performance_command(
    experiment: Experiment,
    name: str,
    model_name: str,
    mode: EvaluationMode,
    points: MeasurementPoints,
    rows: Sequence[object],
    csv: Path,
) -> Command:
    """A sweep over a model of the server."""
    measurement, server = experiment.sweeps.measurement, experiment.running_server
    # Offline the rows go through shared memory either way; over HTTP each of its regions would take up a port.
    url = server.grpc_url if mode is EvaluationMode.OFFLINE else server.http_url
    argv = [
        *script("run_performance_on_triton.py", "--server-url", url, *experiment.server_config.client_options),
        *("--model-name", model_name, "--model-repository", experiment.folders.model_store),
        *rows,
        *("--batch-sizes", *points.batch_sizes, "--concurrency", *points.concurrency),
        *("--evaluation-mode", mode, "--performance-tool", experiment.sweeps.tool, "--warmup"),
        *(["--resume"] if experiment.keeps_points else []),
        *window_options(measurement),
        *("--retries", measurement.retries),
        *("--stability-percentage", measurement.stability_percentage),
        *(("--time-budget-s", f"{experiment.sweep_s:.1f}") if experiment.sweep_s is not None else ()),
        *client_options(experiment),
        *("--result-path", csv),
    ]
    return make_command(name, argv, experiment.server_config.client_variables)


def budget_note(csv: Path) -> str:
    """What the time budget left out of a sweep, for people; empty if nothing."""
    left_out = read_left_out(csv)
    return f"{LEFT_OUT}: {left_out.words}" if left_out else ""


def window_options(measurement: MeasurementConfig) -> list[object]:
    """The three windows of a point."""
    if measurement.window_ms is None:
        return ["--measurement-request-count", measurement.request_count]
    return ["--measurement-mode", MeasurementMode.TIME_WINDOWS, "--measurement-interval", measurement.window_ms]


def client_options(experiment: Experiment) -> list[str]:
    """User of perf_analyzer. A server's container never runs as root, and then it can't open root's shared memory;
    of a server that somebody else has started the configuration tells."""
    user, uid = None, os.getuid()
    if experiment.server_config.mode is TritonLaunchMode.REMOTE:
        user = experiment.server_config.client_user
    elif experiment.server_config.mode is TritonLaunchMode.DOCKER and uid == 0:
        user = server_user(uid, os.getgid())
    return [] if user is None else ["--client-user", user]


MAX_CONCURRENCY = 256


@dataclass(frozen=True)
class MeasurementPoints:
    """Grid of measurements: each batch size at each concurrency."""

    batch_sizes: tuple[int, ...]
    concurrency: tuple[int, ...]


def offline_points(max_batch_size: int, steps: int, batching: Batching) -> MeasurementPoints:
    """One request at a time: a single row, then ``steps`` equal steps up to the maximum batch."""
    largest = 1 if batching is Batching.DISABLED else max_batch_size
    return MeasurementPoints(tuple(sorted({1, *_steps(largest, steps)})), (1,))


def online_points(max_batch_size: int, instances: int, steps: int, batching: Batching) -> MeasurementPoints:
    """Many requests at once: rows for twice what all instances take, in at most 256 concurrent requests, reached in
    ``steps`` equal steps."""
    largest = 1 if batching is Batching.DISABLED else max_batch_size
    rows = 2 * largest * instances
    concurrency = min(MAX_CONCURRENCY, rows)
    return MeasurementPoints((min(largest, rows // concurrency),), _steps(concurrency, steps))


def _steps(largest: int, steps: int) -> tuple[int, ...]:
    """``steps`` equal steps up to ``largest``; fewer where a step would be below 1."""
    steps = min(steps, largest)
    return tuple(sorted({max(1, largest * number // steps) for number in range(1, steps + 1)}))
