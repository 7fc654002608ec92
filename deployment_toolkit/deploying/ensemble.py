"""Ensembles, chains of models served as one model: steps of Triton's ensemble scheduler, and ``config.pbtxt``.

Source of the format: Triton's user guide, chapter ensemble models, and ``ModelEnsembling`` of ``model_config.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as pb

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import name_problems
from deployment_toolkit.deploying.model_config import complete_text, set_signature
from deployment_toolkit.deploying.model_repository import Package
from deployment_toolkit.errors import UsageError


@dataclass(frozen=True)
class EnsembleStep:
    """One step of an ensemble: a model of the repository."""

    model_name: str
    version: int
    spec: ModelSpec


@dataclass(frozen=True)
class Ensemble:
    """A chain of at least one step. The first step takes the ensemble's inputs; each later step takes outputs of the
    steps before it, by tensor name; the last step makes the ensemble's outputs. ``max_batch_size`` 0: the server does
    not batch.

    Raises UsageError if no step before makes a tensor that a step takes, or makes it in another dtype or shape.
    """

    name: str
    steps: tuple[EnsembleStep, ...]
    max_batch_size: int
    version: int = 1

    def __post_init__(self) -> None:
        problem = next(self._problems(), None)
        if problem is not None:
            raise UsageError(f"ensemble {self.name} can't be made: {problem}")

    @property
    def spec(self) -> ModelSpec:
        """Signature of the ensemble, with the value ranges of its inputs."""
        return ModelSpec(self.steps[0].spec.inputs, self.steps[-1].spec.outputs)

    @property
    def package(self) -> Package:
        """Files of the ensemble in a repository: a configuration and an empty version folder."""
        config = pb.ModelConfig(name=self.name, platform="ensemble", max_batch_size=self.max_batch_size)
        config.version_policy.specific.versions.append(self.version)
        set_signature(config, self.spec, self.max_batch_size > 0)
        made: dict[str, str] = {}  # tensor of a step: tensor of the ensemble
        for step in self.steps:
            scheduled = config.ensemble_scheduling.step.add(model_name=step.model_name, model_version=step.version)
            for tensor in step.spec.inputs:
                scheduled.input_map[tensor.name] = made.get(tensor.name, tensor.name)
            for tensor in step.spec.outputs:
                # An id and its hash bucket may have the same name; the tensors of an ensemble may not.
                inner = tensor.name if step is self.steps[-1] else f"{step.model_name}/{tensor.name}"
                scheduled.output_map[tensor.name] = made[tensor.name] = inner
        return Package(self.name, self.version, self.spec, complete_text(config))

    def _problems(self) -> Iterator[str]:
        yield from name_problems(self.name)
        if self.name in (step.model_name for step in self.steps):
            yield f"{self.name} is the name of one of its models"
        made: dict[str, tuple[str, TensorSpec]] = {}
        for number, step in enumerate(self.steps):
            for tensor in step.spec.inputs if number else ():
                if tensor.name not in made:
                    yield f"{step.model_name} takes {tensor.name}, which no model before it makes"
                    continue
                maker, other = made[tensor.name]
                if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
                    yield f"{step.model_name} takes {_told(tensor)}, but {maker} makes {_told(other)}"
            made |= {tensor.name: (step.model_name, tensor) for tensor in step.spec.outputs}


def _told(tensor: TensorSpec) -> str:
    return f"{tensor.name} as {tensor.dtype}{list(tensor.shape)}"
