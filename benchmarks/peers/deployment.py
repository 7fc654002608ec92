"""This project's side of the comparison: model files, the framework's answers and the deployment, with the runner's
commands for the experiments of its configuration."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.sample import SAMPLE_ROWS, Sample
from benchmarks.peers.served import Served
from benchmarks.peers.wire import KSERVE_BINARY, kserve_packed, kserve_path
from deployment_toolkit.core import DataloaderFn, EvaluationMode, Format, Host
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.results.performance import BATCH, CONCURRENCY, P99, THROUGHPUT, US_PER_MS
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.sweep import measure
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.serving import StandaloneExperiment, load_config, missing_here

_RUN = "peers"
_STEP_TIMEOUT_S = 900


@dataclass(frozen=True)
class PerfPoint:
    """Result of perf_analyzer at one point."""

    rows_per_s: float
    p99_ms: float


PerfPoints = Mapping[tuple[int, int], PerfPoint]  # by rows per request and requests in flight


class PeerDeployment:
    """An experiment of a runner's configuration, found by format and precision, in a host. ``path`` is its model;
    without it the model is made once and kept in ``workspace``.

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
        parameters = dataclasses.replace(experiments[name].parameters, host=str(host))
        folder = workspace.resolve() / _RUN
        self._experiment = StandaloneExperiment(
            config,
            number,
            parameters,
            workspace=workspace.resolve(),
            folder=folder,
            model_store=folder,
            logs=folder,
            timeout_s=_STEP_TIMEOUT_S,
        )
        self.format = Format(parameters.format)
        suffix = ".onnx" if self.format is Format.ONNX else f".{self.format}"
        made = folder / f"{name.replace(':', '_')}{suffix}"
        self.model = made if path is None else path.resolve()

    @property
    def settings(self) -> str:
        """Settings of the deployment, for people."""
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
        """Phrase that says what this CPU lacks for the model; empty if it lacks nothing."""
        return missing_here(self._experiment.parameters)

    def make_model(self, logs: Path) -> None:
        """Exports and converts the model, if it is missing. Raises ProcessError."""
        if self.model.exists():
            return
        self.model.parent.mkdir(parents=True, exist_ok=True)
        dataclasses.replace(self._experiment, logs=logs).make_model(self.model)

    def sample(self, folder: Path) -> Sample:
        """Rows of the validation data with the trained checkpoint's answers in TensorFlow. Raises ProcessError."""
        dataclasses.replace(self._experiment, logs=folder).framework_answers(folder / "framework")
        first = next(Dump(folder / "framework").predictions(SAMPLE_ROWS))
        return Sample(first.batch.x, next(iter(first.y_pred.values())).reshape(-1))

    @contextlib.contextmanager
    def running(self, log: Path, *, packed: bool) -> Iterator[tuple[Served, TritonServer]]:
        """Yields the embedded server with the model, deployed like in the runner, for requests of all inputs or of
        ``packed`` ones. Raises ServerError, ProcessError."""
        with tempfile.TemporaryDirectory(prefix="peers_") as folder:
            repository = Path(folder) / "repository"
            repository.mkdir()
            place = Path(folder) / "shared"
            experiment = dataclasses.replace(
                self._experiment,
                parameters=dataclasses.replace(self._experiment.parameters, packed_inputs=packed),
                folder=place,
                model_store=repository,
                logs=log.parent,
            )
            with local_server(repository, log_path=log) as server:
                experiment.deploy(server, self.model)
                assert server.pid is not None, "the embedded server is a child of this process"
                name = self._experiment.config.model_name
                port = int(server.http_url.rpartition(":")[2])
                wire = kserve_packed(server.model_spec(name)) if packed else KSERVE_BINARY
                yield Served(port, kserve_path(name), wire, server.pid), server

    def perf_analyzer(
        self, server: TritonServer, dataloader_fn: DataloaderFn, rows: list[int], concurrency: list[int], csv: Path
    ) -> PerfPoints:
        """Perf_analyzer's results over HTTP. Raises PerformanceError."""
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
