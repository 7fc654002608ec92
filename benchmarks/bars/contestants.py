"""Contestants, the compared models: experiments of a runner's configuration whose converted model exists."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Format, Host, Precision
from deployment_toolkit.errors import UsageError
from runner.serving import (
    Parameters,
    RunConfig,
    TritonLaunchMode,
    fitted_here,
    host_of,
    is_embedded,
    kept_models,
)


@dataclass(frozen=True)
class Contestant:
    """Experiment ``number`` of a configuration, with its model in the format it is served in. ``variant`` tells how it
    is deployed if that differs from the configuration."""

    number: int
    parameters: Parameters
    model_path: Path
    variant: str = ""

    @property
    def title(self) -> str:
        """Name in tables."""
        title = f"{self.parameters.format} {self.parameters.precision}"
        return f"{title}, {self.variant}" if self.variant else title

    @property
    def is_baseline(self) -> bool:
        """True if the others are compared with this contestant."""
        is_fp32 = self.parameters.precision is Precision.FP32
        return self.parameters.format is Format.TF_SAVEDMODEL and is_fp32 and not self.variant

    @property
    def served_threads(self) -> int | None:
        """Threads of all instances together, if the configuration sets them."""
        threads = self.parameters.threads
        if threads is None or host_of(TritonLaunchMode.EMBEDDED, self.parameters) == Host.CPP:
            return threads
        return threads * self.parameters.number_of_model_instances

    def with_instances(self, instances: int) -> Contestant:
        """The same contestant with so many instances."""
        parameters = dataclasses.replace(self.parameters, number_of_model_instances=instances)
        return dataclasses.replace(self, parameters=parameters)

    def with_host(self, host: Host) -> Contestant:
        """The same contestant on another host inside the server."""
        return dataclasses.replace(self, parameters=dataclasses.replace(self.parameters, host=str(host)))

    def in_python(self) -> Contestant:
        """The same model in the Python host."""
        return dataclasses.replace(self.with_host(Host.PYTHON), variant="Python host")

    def packed(self) -> Contestant:
        """The same model with requests of two tensors."""
        parameters = dataclasses.replace(self.parameters, packed_inputs=True)
        return dataclasses.replace(self, parameters=parameters, variant="packed")


def of_run(config: RunConfig, run: Path) -> list[Contestant]:
    """Experiments of a run that passed the correctness gate. The run must have kept its models (``--keep-models``).

    Raises UsageError if the run is missing or had other experiments, or if none of its models is left.
    """
    left = kept_models(config, run)
    if not left:
        raise UsageError(f"run {run} has no models that passed the gate and were kept: run again with --keep-models")
    return of_paths(config, left)


def of_paths(config: RunConfig, models: Mapping[int, Path]) -> list[Contestant]:
    """Models at these paths, each deployed like the experiment of its number. Raises UsageError for an unknown number,
    a missing path, and a model that the embedded server does not serve."""
    found = []
    for number, path in sorted(models.items()):
        if number not in config.experiment_numbers:
            raise UsageError(f"--models {number}={path}: the configuration has no experiment {number}")
        if not path.exists():
            raise UsageError(f"--models {number}={path}: there is no such file or folder")
        configuration = config.configurations[number - 1]
        if not is_embedded(config, number):
            raise UsageError(f"experiment {number} has another server: the bars are for the embedded one")
        found.append(Contestant(number, fitted_here(configuration.parameters), path.resolve()))
    titles = [contestant.title for contestant in found]
    if len(set(titles)) < len(titles):
        raise UsageError(f"the experiments {', '.join(titles)} can't be told apart: leave one out, with --models")
    if sum(contestant.is_baseline for contestant in found) != 1 or len(found) < 2:
        raise UsageError(f"the bars compare tf-savedmodel fp32 with other formats; the models are {', '.join(titles)}")
    return found
