"""An experiment of a run configuration outside a run, by the commands of the runner's stages.

Programs beside the runner (``benchmarks/``) import this module of it and no other.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import EvaluationMode, Precision
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.process import Child, environment, run
from deployment_toolkit.results.performance import PerformanceRow, read_performance
from deployment_toolkit.triton_server.remote import TritonServer
from runner.command import Command, make_command, script
from runner.config.experiment import Parameters, TritonLaunchMode
from runner.config.hosting import fitted_here, host_of, missing_here
from runner.config.run import RunConfig, load_config
from runner.experiment import Experiment
from runner.networks.registry import network_of
from runner.records import StageState
from runner.report.system_info import SystemInfo, read_system_info
from runner.report.task import read_task
from runner.stages.client import MeasurementPoints, performance_command
from runner.stages.network import convert, deploy, export
from runner.workspace import ExperimentFolders, Workspace

__all__ = [
    "Parameters",
    "RunConfig",
    "StandaloneExperiment",
    "SystemInfo",
    "TritonLaunchMode",
    "data_options",
    "fitted_here",
    "host_of",
    "is_embedded",
    "kept_models",
    "load_config",
    "missing_here",
    "read_system_info",
]

_GATE = "correctness"


@dataclass(frozen=True)
class StandaloneExperiment:
    """Experiment ``number`` of ``config``, with ``parameters``. ``workspace`` has the checkpoint, ``folder`` the
    experiment's models, ``model_store`` its server's, ``logs`` what the commands print. A command that takes longer
    than ``timeout_s`` fails."""

    config: RunConfig
    number: int
    parameters: Parameters
    workspace: Path
    folder: Path
    model_store: Path
    logs: Path
    timeout_s: float | None = None

    def make_model(self, path: Path) -> None:
        """Exports and converts; the model is at ``path`` when it is whole. Raises ProcessError."""
        with (
            replace_when_complete(path) as beside,
            tempfile.TemporaryDirectory(prefix=".making_", dir=beside.parent) as made,
        ):
            making = dataclasses.replace(self, folder=Path(made))._experiment()
            self._run((*export(making), *convert(making)))
            making.folders.converted.replace(beside)

    def framework_answers(self, folder: Path) -> None:
        """Dumps the validation rows with what the checkpoint answers to them in TensorFlow. Raises ProcessError."""
        experiment = self._experiment()
        argv = [
            *script("run_inference_on_fw.py"),
            *experiment.network.model_arguments(experiment.checkpoint_dir, Precision.FP32),
            *data_options(self.config, self.parameters.max_batch_size),
            *("--output-dir", folder, "--dump-inputs"),
        ]
        self._run([make_command("framework", argv)])

    def deploy(self, server: TritonServer, model: Path) -> None:
        """Loads a model as the parameters say. Raises ProcessError if the server can't."""
        experiment = self._experiment(server)
        experiment.folders.shared.mkdir(parents=True, exist_ok=True)
        experiment.folders.converted.symlink_to(model)
        self._run(deploy(experiment))

    def measure(
        self,
        server: TritonServer,
        mode: EvaluationMode,
        batches: Sequence[int],
        concurrency: Sequence[int],
        watch: Callable[[Child], None] | None = None,
    ) -> list[PerformanceRow]:
        """Measures the deployed model with perf_analyzer: offline through shared memory, online over HTTP. ``watch`` is
        called with the measuring program while it runs. Raises ProcessError."""
        experiment, csv = self._experiment(server), self.logs / "performance.csv"
        points = MeasurementPoints(tuple(batches), tuple(concurrency))
        rows = data_options(self.config, self.parameters.max_batch_size)
        name = f"performance_{mode}_{self.number}"
        self._run([performance_command(experiment, name, self.config.model_name, mode, points, rows, csv)], watch)
        return read_performance(csv)

    def _experiment(self, server: TritonServer | None = None) -> Experiment:
        folders = ExperimentFolders(self.folder, self.folder, self.model_store)
        places = Workspace(self.workspace, self.folder.name)
        made = Experiment.create(self.config, self.number, places)
        return dataclasses.replace(made, parameters=self.parameters, folders=folders, server=server)

    def _run(self, commands: Iterable[Command], watch: Callable[[Child], None] | None = None) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        for command in commands:
            log = self.logs / f"{command.name}.log"
            env = {**environment(prepend={}), **command.private}
            run(command.argv, env=env, timeout_s=self.timeout_s, log_path=log, watch=watch)


def data_options(config: RunConfig, batch_size: int, pattern: str | None = None) -> list[object]:
    """Options with which a script reads the configuration's validation data, or other files with the same columns."""
    return network_of(config).row_arguments(batch_size, pattern)


def is_embedded(config: RunConfig, number: int) -> bool:
    """True if the embedded server serves an experiment."""
    return config.launch_mode_of(config.configurations[number - 1]) is TritonLaunchMode.EMBEDDED


def kept_models(config: RunConfig, run_folder: Path) -> dict[int, Path]:
    """The models of a run, by experiment, that passed the correctness gate and were kept (``--keep-models``). Raises
    UsageError if the run isn't there or was made with other experiments."""
    folder = run_folder.resolve()
    if not (folder / "task.yaml").is_file():
        raise UsageError(f"--run {folder} is no run, it has no task.yaml: give a folder of runner_workspace/runs")
    task = read_task(folder / "task.yaml")
    ran = [(item["parameters"]["format"], item["parameters"]["precision"]) for item in task["config"]["configurations"]]
    if ran != [(item.parameters.format, item.parameters.precision) for item in config.configurations]:
        raise UsageError(f"run {folder} was of other experiments than the configuration: give its --config-path")
    passed = {
        stage["experiment"]
        for stage in task["stages"]
        if stage["name"] == _GATE and stage["state"] in (StageState.OK, StageState.REUSED)
    }
    workspace = Workspace(folder.parent.parent, folder.name)
    models = {number: workspace.experiment(number).converted for number in sorted(passed)}
    return {number: path for number, path in models.items() if path.exists()}
