"""Contestants on an embedded server, deployed and measured by the commands of the runner's stages."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars.contestants import Contestant
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import EvaluationMode
from deployment_toolkit.process import Child, run
from deployment_toolkit.results.performance import PerformanceRow, read_performance
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.run import RunConfig
from runner.experiment import Command, Experiment
from runner.stages.client import MeasurementPoints, performance_command
from runner.stages.network import deploy, spec_options
from runner.workspace import ExperimentFolders, Workspace


@dataclass(frozen=True)
class Serving:
    """A server and the models that it was given, each under its own name. ``folder`` is for it alone."""

    config: RunConfig
    server: TritonServer
    folder: Path

    def deploy(self, contestant: Contestant) -> None:
        """Loads a contestant's model as its parameters say. Raises ProcessError if the server can't."""
        experiment = self._experiment(contestant)
        experiment.folders.shared.mkdir(parents=True)
        experiment.folders.converted.symlink_to(contestant.model_path)
        for command in deploy(experiment):
            self._run(command)

    def offline(self, contestant: Contestant, batches: Sequence[int], concurrency: int = 1) -> list[PerformanceRow]:
        """Measures through shared memory. Raises ProcessError."""
        points = MeasurementPoints(tuple(batches), (concurrency,))
        return self._measure(contestant, EvaluationMode.OFFLINE, points, None)

    def online(
        self, contestant: Contestant, batch: int, concurrency: int, watch: Callable[[Child], None]
    ) -> PerformanceRow:
        """Measures over HTTP, one point. ``watch`` is called with the measuring program while it runs. Raises
        ProcessError."""
        points = MeasurementPoints((batch,), (concurrency,))
        return self._measure(contestant, EvaluationMode.ONLINE, points, watch)[0]

    def _measure(
        self,
        contestant: Contestant,
        mode: EvaluationMode,
        points: MeasurementPoints,
        watch: Callable[[Child], None] | None,
    ) -> list[PerformanceRow]:
        experiment, csv = self._experiment(contestant), self.folder / "performance.csv"
        rows = data_options(self.config, contestant.parameters.max_batch_size)
        name = f"performance_{mode}_{contestant.number}"
        self._run(performance_command(experiment, name, experiment.config.model_name, mode, points, rows, csv), watch)
        return read_performance(csv)

    def _run(self, command: Command, watch: Callable[[Child], None] | None = None) -> None:
        run(command.argv, log_path=self.folder / f"{command.name}.log", watch=watch)

    def _experiment(self, contestant: Contestant) -> Experiment:
        """As the runner has it, with the models of all in one repository."""
        number = contestant.number
        config = dataclasses.replace(self.config, model_name=f"{self.config.model_name}_{number}")
        folders = ExperimentFolders(self.folder, self.folder / f"shared_{number}", _store(self.folder))
        workspace = Workspace(self.folder, "bars")
        return Experiment(number, config, contestant.parameters, workspace, folders, self.server)


@contextlib.contextmanager
def serving(config: RunConfig, folder: Path) -> Iterator[Serving]:
    """A server without models, gone when the block is left. ``folder`` is made. Raises ServerError."""
    _store(folder).mkdir(parents=True)
    method = config.triton_load_model_method
    with local_server(_store(folder), log_path=folder / "tritonserver.log", load_method=method) as server:
        yield Serving(config, server, folder)


def data_options(config: RunConfig, batch_size: int, pattern: str | None = None) -> list[object]:
    """What makes a script read the configuration's validation data, or other files with the same columns."""
    pattern = pattern or str(config.dataset_dir / "valid" / "*.parquet")
    options = ["--dataloader", ROOT / "dataloader.py", "--data-pattern", pattern, "--batch-size", batch_size]
    return [*options, *spec_options(config)]


def _store(folder: Path) -> Path:
    return folder / "model_store"
