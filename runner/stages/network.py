"""The stages of an experiment as the commands that make them up: what a person would type, in order."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, Format, Precision
from deployment_toolkit.triton_server.config_keys import THREADS
from runner.command import Command, Shell, make_command, script
from runner.config.experiment import Parameters
from runner.config.hosting import host_of, is_reduced
from runner.experiment import Experiment
from runner.stages.client import (
    TRANSPORTS,
    MeasurementPoints,
    budget_note,
    gate_command,
    inference_command,
    offline_sweep,
    online_sweep,
    performance_command,
)

REFERENCE = "framework"
_QUEUE_KEYS = (
    *("latency_budget_ms", "max_queue_size", "queue_timeout_us", "queue_timeout_action"),
    *("priority_levels", "default_priority_level"),
)


@dataclass(frozen=True)
class Stage:
    """A name and what it runs. The server is started before the first stage that needs it. ``plan`` tells the commands
    that decide its results, if ``run`` is not ``in_order``; without either a run that goes on repeats the stage."""

    name: str
    run: Callable[[Experiment, Shell], None]
    needs_server: bool = False
    shares_memory: bool = False  # with the server, which must be on this host
    measures: bool = False  # within the run's time budget
    parts: int = 1  # of the time that the measurements of an experiment share
    plan: Callable[[Experiment], Iterable[Command]] | None = None


@dataclass(frozen=True)
class InOrder:
    """Runs an experiment's commands one after the other; the first that fails ends the stage. ``commands`` only makes
    them, so that it can also be asked what the stage would run. ``note`` is asked at the end what people should know of
    the stage."""

    commands: Callable[[Experiment], Iterable[Command]]
    note: Callable[[Experiment], str] = lambda _: ""

    def __call__(self, experiment: Experiment, shell: Shell) -> None:
        for command in self.commands(experiment):
            shell.run(command)
        if text := self.note(experiment):
            shell.note(text)


def in_order(
    commands: Callable[[Experiment], Iterable[Command]], note: Callable[[Experiment], str] = lambda _: ""
) -> InOrder:
    """The stage's way to run commands, one after the other."""
    return InOrder(commands, note)


def export(experiment: Experiment) -> list[Command]:
    """Checkpoint -> exported model."""
    parameters = experiment.parameters
    argv = [
        *script("export_model.py"),
        *experiment.network.model_arguments(experiment.checkpoint_dir, parameters.export_precision),
        *("--output-path", experiment.exported, "--output-type", parameters.export_format),
        *("--torch-jit", parameters.torch_jit, "--ignore-unknown-parameters"),
        *_rows(experiment),
    ]
    return [make_command("export", argv, makes=experiment.exported)]


def convert(experiment: Experiment) -> list[Command]:
    """Exported model -> the format to serve, compared with the exported model on real rows."""
    parameters, correctness = experiment.parameters, experiment.correctness
    argv = [
        *_navigator("convert", experiment),
        *("--model-path", experiment.exported, "--output-path", experiment.folders.converted),
        *("--target-formats", parameters.format, "--target-precisions", parameters.precision),
        *_converter(experiment),
        *("--override-workspace", "--max-batch-size", parameters.max_batch_size),
        *("--atol", correctness.atol, "--rtol", correctness.rtol),
        *_reduced_precision(experiment),
        *_rows(experiment),
    ]
    return [make_command("convert", argv)]


def deploy(experiment: Experiment) -> list[Command]:
    """Converted model -> model repository of the running server, loaded and answering."""
    parameters, server = experiment.parameters, experiment.server_config
    argv = [
        *_navigator("triton-config-model", experiment),
        *("--model-path", experiment.folders.converted, "--model-format", parameters.format),
        *("--model-repository", experiment.folders.model_store, "--model-version", "1"),
        *("--model-control-mode", server.load_method, "--load-model", "--load-model-timeout-s", "120"),
        *("--batching", experiment.batching, "--backend-accelerator", parameters.backend_accelerator),
        *("--max-batch-size", parameters.max_batch_size),
        *("--preferred-batch-sizes", *(parameters.preferred_batch_sizes or [parameters.max_batch_size])),
        *("--engine-count-per-device", f"{parameters.device_kind}={parameters.number_of_model_instances}"),
        *("--host", host_of(server.mode, parameters), "--server-url", experiment.running_server.grpc_url),
        *server.client_options,
    ]
    if parameters.max_queue_delay_us:
        argv += ["--max-queue-delay-us", parameters.max_queue_delay_us]
    argv += _queue(parameters)
    if parameters.threads is not None:
        argv += ["--triton-backend-parameters", f"{THREADS}={parameters.threads}"]
    if parameters.tensorrt_capture_cuda_graph:
        argv.append("--tensorrt-capture-cuda-graph")
    if parameters.packed_inputs:
        argv.append("--packed-inputs")
    if parameters.format is Format.TRT and server.image is not None:
        argv += ["--triton-docker-image", server.image]
    return [make_command("deploy", argv, server.client_variables)]


def correctness(experiment: Experiment) -> list[Command]:
    """The validation data through the framework and, four ways or two, through the server; metrics of each; the
    gate."""
    limits, dumps = experiment.correctness, experiment.folders.dumps
    rows = experiment.network.row_arguments(min(limits.batch_size, experiment.parameters.max_batch_size))
    commands = [
        make_command(
            "inference_framework",
            [
                *script("run_inference_on_fw.py"),
                *experiment.network.model_arguments(experiment.checkpoint_dir, Precision.FP32),
                *rows,
                *("--output-dir", dumps / REFERENCE, "--dump-labels"),
            ],
            makes=dumps / REFERENCE,
        )
    ]
    transports = [name for name, (_, flags) in TRANSPORTS.items() if limits.one_at_a_time or not flags]
    for name in transports:
        model = experiment.names.network
        commands.append(inference_command(experiment, f"inference_{name}", model, name, rows, dumps / name))
    for name in (REFERENCE, *transports):
        argv = [
            *script("calculate_metrics.py", *experiment.network.metrics_arguments()),
            *("--dump-dir", dumps / name, "--csv", experiment.folders.results / f"metrics_{name}.csv"),
        ]
        commands.append(make_command(f"metrics_{name}", argv))
    served = [dumps / name for name in transports]
    csv = experiment.folders.results / "correctness.csv"
    return [*commands, gate_command(experiment, "gate", dumps / REFERENCE, served, csv)]


def performance_offline(experiment: Experiment) -> list[Command]:
    """Batch sweep through shared memory, one request at a time."""
    return [_performance(experiment, EvaluationMode.OFFLINE, offline_sweep(experiment))]


def performance_online(experiment: Experiment) -> list[Command]:
    """Concurrency sweep over the network protocol."""
    return [_performance(experiment, EvaluationMode.ONLINE, online_sweep(experiment))]


def _table(experiment: Experiment, mode: EvaluationMode) -> Path:
    return experiment.folders.results / f"triton_performance_{mode}.csv"


def sweep_stages(
    name: str,
    offline: Callable[[Experiment], Iterable[Command]],
    online: Callable[[Experiment], Iterable[Command]],
    table: Callable[[Experiment, EvaluationMode], Path],
) -> tuple[Stage, Stage]:
    """The stages of both sweeps, which note at the end what the time budget left out of ``table``."""

    def left_out(mode: EvaluationMode) -> Callable[[Experiment], str]:
        return lambda experiment: budget_note(table(experiment, mode))

    first, second = EvaluationMode.OFFLINE, EvaluationMode.ONLINE
    return (
        Stage(
            f"{name} {first}", in_order(offline, left_out(first)), needs_server=True, shares_memory=True, measures=True
        ),
        Stage(f"{name} {second}", in_order(online, left_out(second)), needs_server=True, measures=True),
    )


STAGES = (
    Stage("export", in_order(export)),
    Stage("convert", in_order(convert)),
    Stage("deploy", in_order(deploy), needs_server=True),
    Stage("correctness", in_order(correctness), needs_server=True),
    *sweep_stages("performance", performance_offline, performance_online, _table),
)


def _queue(parameters: Parameters) -> list[object]:
    """Options of the queue's limits and of the warm-up, as far as they are configured."""
    plain = Parameters.__dataclass_fields__
    argv: list[object] = []
    for name in _QUEUE_KEYS:
        if (value := getattr(parameters, name)) != plain[name].default:
            argv += [f"--{name.replace('_', '-')}", value]
    if parameters.warmup_batch_sizes is not None:
        argv += ["--warmup-batch-sizes", *(parameters.warmup_batch_sizes or [0])]
    return argv


def _reduced_precision(experiment: Experiment) -> list[object]:
    """Options for judging the answers of a narrower precision, and for the calibration of int8."""
    parameters = experiment.parameters
    if not is_reduced(parameters):
        return []
    options: list[object] = ["--reduced-precision-atol", experiment.correctness.reduced_precision_atol]
    calibrated = parameters.precision is Precision.INT8
    return [*options, *(("--calibration-data-pattern", experiment.network.train_pattern) if calibrated else ())]


def _converter(experiment: Experiment) -> list[object]:
    """Place of the conversion: what TensorRT makes, in a container whose TensorRT is the server's container's."""
    image, target = experiment.server_config.image, experiment.parameters.format
    if image is None or target not in (Format.TRT, Format.TF_TRT):
        return ["--launch-mode", "local"]
    named: list[object] = ["--triton-docker-image", image]
    if target is Format.TF_TRT:
        named = ["--container-version", experiment.server_config.release]
    return ["--launch-mode", "docker", *named, "--gpus", *experiment.devices]


def _performance(experiment: Experiment, mode: EvaluationMode, points: MeasurementPoints) -> Command:
    model, csv = experiment.names.network, _table(experiment, mode)
    return performance_command(experiment, f"performance_{mode}", model, mode, points, _rows(experiment), csv)


def _rows(experiment: Experiment) -> list[object]:
    """Arguments with which a script reads the validation data in the model's largest batches."""
    return experiment.network.row_arguments(experiment.parameters.max_batch_size)


def _navigator(command: str, experiment: Experiment) -> list[object]:
    program = Path(sys.executable).with_name("model-navigator")
    workspace = experiment.folders.shared / "navigator_workspace"
    return [program, command, "--model-name", experiment.names.network, "--workspace-path", workspace, "--verbose"]
