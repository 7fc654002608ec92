"""The models that are compared: the experiments of a runner's configuration whose converted model is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Format, Host, Precision
from deployment_toolkit.errors import UsageError
from runner.serving import Parameters, RunConfig, is_embedded, kept_models


@dataclass(frozen=True)
class Contestant:
    """Experiment ``number`` of a configuration, with its model in the format it is served in."""

    number: int
    parameters: Parameters
    model_path: Path

    @property
    def title(self) -> str:
        """As tables name it."""
        return f"{self.parameters.format} {self.parameters.precision}"

    @property
    def is_baseline(self) -> bool:
        """Whether the others are compared with it."""
        return self.parameters.format is Format.TF_SAVEDMODEL and self.parameters.precision is Precision.FP32

    @property
    def served_threads(self) -> int | None:
        """Threads of all instances together, where the configuration says so."""
        threads = self.parameters.threads
        if threads is None or self.parameters.host == Host.CPP:
            return threads
        return threads * self.parameters.number_of_model_instances

    def with_instances(self, instances: int) -> Contestant:
        """The same with so many instances."""
        parameters = dataclasses.replace(self.parameters, number_of_model_instances=instances)
        return dataclasses.replace(self, parameters=parameters)

    def with_host(self, host: Host) -> Contestant:
        """The same, run by another host inside the server."""
        return dataclasses.replace(self, parameters=dataclasses.replace(self.parameters, host=str(host)))


def of_run(config: RunConfig, run: Path) -> list[Contestant]:
    """The experiments of a run that passed the correctness gate. The run must have kept its models (``--keep-models``).

    Raises UsageError if the run isn't there or was made with other experiments, or if none of its models is left.
    """
    left = kept_models(config, run)
    if not left:
        raise UsageError(f"run {run} has no models that passed the gate and were kept: run again with --keep-models")
    return of_paths(config, left)


def of_paths(config: RunConfig, models: Mapping[int, Path]) -> list[Contestant]:
    """The models at these paths, each deployed as the experiment of its number is. Raises UsageError for a number or a
    path that isn't there, and for what the embedded server does not serve."""
    found = []
    for number, path in sorted(models.items()):
        if number not in config.experiment_numbers:
            raise UsageError(f"--models {number}={path}: the configuration has no experiment {number}")
        if not path.exists():
            raise UsageError(f"--models {number}={path}: there is no such file or folder")
        configuration = config.configurations[number - 1]
        if not is_embedded(config, number):
            raise UsageError(f"experiment {number} has another server: the bars are for the embedded one")
        found.append(Contestant(number, configuration.parameters, path.resolve()))
    titles = [contestant.title for contestant in found]
    if len(set(titles)) < len(titles):
        raise UsageError(f"the experiments {', '.join(titles)} can't be told apart: leave one out, with --models")
    if sum(contestant.is_baseline for contestant in found) != 1 or len(found) < 2:
        raise UsageError(f"the bars compare tf-savedmodel fp32 with other formats; the models are {', '.join(titles)}")
    return found
