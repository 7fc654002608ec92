"""This project's side: model files, the framework's answers and the deployment, by the same commands that the runner
gives for the experiments of its configuration."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.sample import SAMPLE_ROWS, Sample
from benchmarks.peers.served import Served
from benchmarks.peers.wire import KSERVE_BINARY
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import DataloaderFn, EvaluationMode, Format, Host
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.process import run
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, P99, THROUGHPUT, US_PER_MS
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.hosting import missing_here
from runner.config.run import load_config
from runner.experiment import Command, Experiment, make_command, script
from runner.stages.network import convert, deploy, export, hidden_unit_options, spec_options
from runner.workspace import ExperimentFolders, Workspace

_RUN = "peers"
_STEP_TIMEOUT_S = 900


@dataclass(frozen=True)
class PerfPoint:
    """What perf_analyzer measured."""

    rows_per_s: float
    p99_ms: float


class PeerDeployment:
    """An experiment of a runner's configuration, found by format and precision, in a host. ``path`` is its model;
    without one it is made where ``workspace`` keeps models, and kept.

    Raises UsageError if the configuration has no such experiment, DataError if there is no such file.
    """

    def __init__(self, config_path: Path, name: str, path: Path | None, workspace: Path, host: Host) -> None:
        config = load_config(config_path)
        experiments = {f"{item.parameters.format}:{item.parameters.precision}": item for item in config.configurations}
        if name not in experiments:
            raise UsageError(f"{config_path} has no experiment {name}: it has {', '.join(experiments)}")
        if path is not None and not path.exists():
            raise DataError(f"there is no model at {path}")
        self.name = name
        number = config.configurations.index(experiments[name]) + 1
        places = Workspace(workspace.resolve(), _RUN)
        folders = ExperimentFolders(places.run, places.root / _RUN, places.root / _RUN)
        parameters = dataclasses.replace(experiments[name].parameters, host=str(host))
        self._experiment = Experiment(number, config, parameters, places, folders)
        self.format = Format(self._experiment.parameters.format)
        suffix = ".onnx" if self.format is Format.ONNX else f".{self.format}"
        made = places.root / _RUN / f"{name.replace(':', '_')}{suffix}"
        self.model = made if path is None else path.resolve()

    @property
    def settings(self) -> str:
        """For people: how the experiment is deployed."""
        given = self._experiment.parameters
        instances = f"{given.number_of_model_instances} instance(s)"
        threads = f" of {given.threads} threads" if given.threads else ""
        preferred = given.preferred_batch_sizes or [given.max_batch_size]
        return (
            f"{given.host} host, {instances}{threads}, {self._experiment.config.batching} batching up to "
            f"{given.max_batch_size} rows, preferred {preferred}, queue delay {given.max_queue_delay_us} us"
        )

    @property
    def missing_here(self) -> str:
        """What this CPU lacks for the model, in a phrase; nothing if it lacks nothing."""
        return missing_here(self._experiment.parameters)

    def make_model(self, logs: Path) -> None:
        """Exports and converts, if the model is not there. Raises ProcessError."""
        if self.model.exists():
            return
        with (
            replace_when_complete(self.model) as beside,
            tempfile.TemporaryDirectory(prefix=".making_", dir=self.model.parent) as made,
        ):
            folders = dataclasses.replace(self._experiment.folders, shared=Path(made))
            experiment = dataclasses.replace(self._experiment, folders=folders)
            for command in (*export(experiment), *convert(experiment)):
                _run(command, logs)
            folders.converted.replace(beside)

    def sample(self, folder: Path) -> Sample:
        """Rows of the validation data with what the trained checkpoint answers to them in TensorFlow. Raises
        ProcessError."""
        config, parameters = self._experiment.config, self._experiment.parameters
        argv = [
            *script("run_inference_on_fw.py", "--input-path", ROOT / "model.py", "--input-type", Format.TF_KERAS),
            *("--checkpoint-dir", self._experiment.workspace.checkpoint(parameters.checkpoint), "--precision", "fp32"),
            *hidden_unit_options(config),
            *("--dataloader", ROOT / "dataloader.py", "--data-pattern", self._experiment.valid_pattern),
            *("--batch-size", parameters.max_batch_size, *spec_options(config)),
            *("--output-dir", folder / "framework", "--dump-inputs"),
        ]
        _run(make_command("framework", argv), folder)
        first = next(Dump(folder / "framework").predictions(SAMPLE_ROWS))
        return Sample(first.batch.x, next(iter(first.y_pred.values())).reshape(-1))

    @contextlib.contextmanager
    def running(self, log: Path) -> Iterator[tuple[Served, TritonServer]]:
        """The embedded server with the model, deployed as the runner does. Raises ServerError, ProcessError."""
        with tempfile.TemporaryDirectory(prefix="peers_") as folder:
            repository = Path(folder) / "repository"
            repository.mkdir()
            shared = Path(folder) / "shared"
            shared.mkdir()
            (shared / "converted_model").symlink_to(self.model)
            folders = dataclasses.replace(self._experiment.folders, shared=shared, model_store=repository)
            with local_server(repository, log_path=log) as server:
                for command in deploy(dataclasses.replace(self._experiment, folders=folders, server=server)):
                    _run(command, log.parent)
                assert server.pid is not None, "the embedded server is a child of this process"
                name = self._experiment.config.model_name
                port = int(server.http_url.rpartition(":")[2])
                yield Served(port, f"/v2/models/{name}/infer", KSERVE_BINARY, server.pid), server

    def perf_analyzer(
        self, server: TritonServer, dataloader_fn: DataloaderFn, rows: list[int], concurrency: list[int], csv: Path
    ) -> dict[tuple[int, int], PerfPoint]:
        """What perf_analyzer measures over HTTP, by rows a request and requests in flight. Raises PerformanceError."""
        options = PerformanceOptions(
            model_name=self._experiment.config.model_name,
            result_path=csv,
            server_url=server.http_url,
            batch_sizes=rows,
            concurrency=concurrency,
            evaluation_mode=EvaluationMode.ONLINE,
            retries=0,
            warmup=True,
        )
        measured = measure(options, dataloader_fn)
        return {(row[BATCH], row[CONCURRENCY]): PerfPoint(row[THROUGHPUT], row[P99] / US_PER_MS) for row in measured}


def _run(command: Command, logs: Path) -> None:
    logs.mkdir(parents=True, exist_ok=True)
    run(command.argv, timeout_s=_STEP_TIMEOUT_S, log_path=logs / f"{command.name}.log")
