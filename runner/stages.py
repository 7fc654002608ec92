"""The stages of an experiment as the commands that make them up: what a person would type, in order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, Format, Host
from deployment_toolkit.model_files import SUFFIXES
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config import Config, Parameters
from runner.launch_checks import TritonLaunchMode
from runner.measurement_points import MeasurementPoints, offline_points, online_points
from runner.workspace import ExperimentFolders, Workspace
from widedeep.dataset_folder import DatasetFolder

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = "framework"
TRANSPORTS = {
    "grpc_async": ("grpc", []),
    "grpc_sync": ("grpc", ["--synchronous"]),
    "http_async": ("http", []),
    "http_sync": ("http", ["--synchronous"]),
}


@dataclass(frozen=True)
class Command:
    """A child process and the name of its log."""

    name: str
    argv: tuple[str, ...]


@dataclass
class Experiment:
    """One configuration on its way through the stages. ``server`` is there from the deploy stage on."""

    number: int
    config: Config
    parameters: Parameters
    workspace: Workspace
    folders: ExperimentFolders
    server: TritonServer | None = None

    @property
    def exported(self) -> Path:
        """The exported model, with its format's suffix."""
        return self.folders.exported.with_suffix(SUFFIXES.get(self.parameters.export_format, ""))

    @property
    def valid_pattern(self) -> str:
        """Parquet files of the validation data."""
        return str(self.dataset_dir / "valid" / "*.parquet")

    @property
    def dataset_dir(self) -> Path:
        """The preprocessed data set."""
        return self.config.dataset_dir

    @property
    def server_url(self) -> TritonServer:
        """The running server."""
        assert self.server is not None, "the deploy stage starts the server"
        return self.server


@dataclass(frozen=True)
class Stage:
    """A name and the commands it runs. The server is started before the first stage that needs it."""

    name: str
    commands: Callable[[Experiment], list[Command]]
    needs_server: bool = False


def export(experiment: Experiment) -> list[Command]:
    """Checkpoint -> exported model."""
    parameters = experiment.parameters
    argv = [
        *_script("export_model.py", *_network_options(experiment, str(parameters.export_precision))),
        *("--output-path", experiment.exported, "--output-type", parameters.export_format),
        *("--torch-jit", parameters.torch_jit, "--ignore-unknown-parameters"),
        *_rows(experiment, _batch_size(experiment)),
    ]
    return [_command("export", argv)]


def convert(experiment: Experiment) -> list[Command]:
    """Exported model -> the format to serve, compared with the exported model on real rows."""
    parameters, correctness = experiment.parameters, experiment.config.correctness
    argv = [
        *_navigator("convert", experiment),
        *("--model-path", experiment.exported, "--output-path", experiment.folders.converted),
        *("--target-formats", parameters.format, "--target-precisions", parameters.precision),
        *("--launch-mode", "local", "--override-workspace", "--max-batch-size", parameters.max_batch_size),
        *("--atol", correctness.atol, "--rtol", correctness.rtol),
        *_rows(experiment, _batch_size(experiment)),
    ]
    return [_command("convert", argv)]


def deploy(experiment: Experiment) -> list[Command]:
    """Converted model -> model repository of the running server, loaded and answering."""
    parameters, config = experiment.parameters, experiment.config
    argv = [
        *_navigator("triton-config-model", experiment),
        *("--model-path", experiment.folders.converted, "--model-format", parameters.format),
        *("--model-repository", experiment.folders.model_store, "--model-version", "1"),
        *("--model-control-mode", config.triton_load_model_method, "--load-model", "--load-model-timeout-s", "120"),
        *("--batching", config.batching, "--backend-accelerator", parameters.backend_accelerator),
        *("--max-batch-size", parameters.max_batch_size, "--preferred-batch-sizes", parameters.max_batch_size),
        *("--engine-count-per-device", f"{parameters.device_kind}={parameters.number_of_model_instances}"),
        *("--host", _host(experiment), "--server-url", experiment.server_url.grpc_url),
    ]
    if parameters.tensorrt_capture_cuda_graph:
        argv.append("--tensorrt-capture-cuda-graph")
    return [_command("deploy", argv)]


def correctness(experiment: Experiment) -> list[Command]:
    """The validation data through the framework and, four ways, through the server; metrics of each; the gate."""
    limits, dumps = experiment.config.correctness, experiment.folders.dumps
    rows = _rows(experiment, min(limits.batch_size, _batch_size(experiment)))
    commands = [
        _command(
            "inference_framework",
            [
                *_script("run_inference_on_fw.py", *_network_options(experiment, "fp32")),
                *rows,
                *("--output-dir", dumps / REFERENCE, "--dump-labels"),
            ],
        )
    ]
    server = experiment.server_url
    for name, (protocol, flags) in TRANSPORTS.items():
        argv = [
            *_script("run_inference_on_triton.py"),
            *("--server-url", server.grpc_url if protocol == "grpc" else server.http_url),
            *("--model-name", experiment.config.model_name, "--model-version", "1", *flags),
            *rows,
            *("--output-dir", dumps / name, "--dump-labels"),
        ]
        commands.append(_command(f"inference_{name}", argv))
    for name in (REFERENCE, *TRANSPORTS):
        argv = [
            *_script("calculate_metrics.py", "--metrics", ROOT / "metrics.py"),
            *("--dump-dir", dumps / name, "--csv", experiment.folders.results / f"metrics_{name}.csv"),
        ]
        commands.append(_command(f"metrics_{name}", argv))
    gate = [
        *_script("check_correctness.py", "--metrics", ROOT / "metrics.py", "--reference-dump-dir", dumps / REFERENCE),
        *(part for name in TRANSPORTS for part in ("--dump-dir", dumps / name)),
        *("--atol", limits.atol, "--rtol", limits.rtol, "--max-metric-loss", f"map12={limits.max_map_loss}"),
        *("--csv", experiment.folders.results / "correctness.csv"),
    ]
    return [*commands, _command("gate", gate)]


def performance_offline(experiment: Experiment) -> list[Command]:
    """Batch sweep through shared memory, one request at a time."""
    parameters, config = experiment.parameters, experiment.config
    points = offline_points(parameters.max_batch_size, config.measurement_steps_offline, config.batching)
    return [_performance(experiment, EvaluationMode.OFFLINE, points)]


def performance_online(experiment: Experiment) -> list[Command]:
    """Concurrency sweep over the network protocol."""
    parameters, config = experiment.parameters, experiment.config
    points = online_points(
        parameters.max_batch_size,
        parameters.number_of_model_instances,
        config.measurement_steps_online,
        config.batching,
    )
    return [_performance(experiment, EvaluationMode.ONLINE, points)]


STAGES = (
    Stage("export", export),
    Stage("convert", convert),
    Stage("deploy", deploy, needs_server=True),
    Stage("correctness", correctness, needs_server=True),
    Stage("performance offline", performance_offline, needs_server=True),
    Stage("performance online", performance_online, needs_server=True),
)


def _host(experiment: Experiment) -> Host:
    """The embedded server has only the Python backend, a container has the formats' own."""
    return Host.PYTHON if experiment.config.launch_mode is TritonLaunchMode.EMBEDDED else Host.NATIVE


def _performance(experiment: Experiment, mode: EvaluationMode, points: MeasurementPoints) -> Command:
    measurement, server = experiment.config.measurement, experiment.server_url
    # Offline the rows go through shared memory either way; over HTTP each of its regions would take up a port.
    url = server.grpc_url if mode is EvaluationMode.OFFLINE else server.http_url
    argv = [
        *_script("run_performance_on_triton.py", "--server-url", url),
        *("--model-name", experiment.config.model_name, "--model-repository", experiment.folders.model_store),
        *_rows(experiment, _batch_size(experiment)),
        *("--batch-sizes", *points.batch_sizes, "--concurrency", *points.concurrency),
        *("--evaluation-mode", mode, "--performance-tool", experiment.config.performance_tool, "--warmup"),
        *("--measurement-request-count", measurement.request_count, "--retries", measurement.retries),
        *("--stability-percentage", measurement.stability_percentage),
        *("--result-path", experiment.folders.results / f"triton_performance_{mode}.csv"),
    ]
    return _command(f"performance_{mode}", argv)


def _network_options(experiment: Experiment, precision: str) -> list[object]:
    checkpoint = experiment.workspace.checkpoint(experiment.parameters.checkpoint)
    options: list[object] = ["--input-path", ROOT / "model.py", "--input-type", Format.TF_KERAS]
    options += ["--checkpoint-dir", checkpoint, "--precision", precision]
    return [*options, *hidden_unit_options(experiment.config)]


def hidden_unit_options(config: Config) -> list[object]:
    """The network's own hidden layers, unless the configuration has others."""
    return [] if config.deep_hidden_units is None else ["--deep-hidden-units", *config.deep_hidden_units]


def _rows(experiment: Experiment, batch_size: int) -> list[object]:
    pattern = experiment.valid_pattern
    options = ["--dataloader", ROOT / "dataloader.py", "--data-pattern", pattern, "--batch-size", batch_size]
    return [*options, *spec_options(experiment.config)]


def spec_options(config: Config) -> list[object]:
    """The specification and the embedding widths beside the data set; one without them has the Outbrain features."""
    dataset = DatasetFolder(config.dataset_dir)
    spec = [] if dataset.spec_path is None else ["--feature-spec", dataset.spec_path]
    return spec if dataset.sizes_path is None else [*spec, "--embedding-sizes", dataset.sizes_path]


def _batch_size(experiment: Experiment) -> int:
    return experiment.parameters.max_batch_size


def _navigator(command: str, experiment: Experiment) -> list[object]:
    program = Path(sys.executable).with_name("model-navigator")
    workspace = experiment.folders.shared / "navigator_workspace"
    return [program, command, "--model-name", experiment.config.model_name, "--workspace-path", workspace, "--verbose"]


def _script(name: str, *options: object) -> list[object]:
    return [sys.executable, ROOT / name, *options]


def _command(name: str, argv: list[object]) -> Command:
    return Command(name, tuple(str(part) for part in argv))
