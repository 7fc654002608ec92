"""Signature of a converted model: the source's inputs and outputs, with the options' names and narrower shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from deployment_toolkit.core import Arrays, Format, ModelSpec, TensorSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library import registry
from navigator.values import GivenTensor


def read_spec(path: Path, model_format: Format) -> ModelSpec:
    """Reads a signature from the file that an export stores in the folder, without a runtime, else from the model."""
    return registry.read_spec(model_format, path)


@dataclass(frozen=True)
class Signature:
    """Signature of a conversion. ``spec`` has the new names; ``inputs`` and ``outputs`` map a changed tensor's name in
    the model to its new name."""

    spec: ModelSpec
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def renames(self) -> bool:
        """True if a name changes."""
        return bool(self.inputs or self.outputs)

    def to_source(self, x: Arrays) -> Arrays:
        """Inputs with the model's names."""
        own = {new: old for old, new in self.inputs.items()}
        return {own.get(name, name): array for name, array in x.items()}

    def from_source(self, x: Arrays) -> Arrays:
        """Inputs with the new names, from inputs with the model's names."""
        return {self.inputs.get(name, name): array for name, array in x.items()}

    def answers(self, y: Arrays) -> Arrays:
        """Outputs with the new names."""
        return {self.outputs.get(name, name): array for name, array in y.items()}


def find_signature(spec: ModelSpec, inputs: Sequence[GivenTensor], outputs: Sequence[GivenTensor]) -> Signature:
    """Applies ``--inputs`` and ``--outputs`` to a model's signature; tensors that they don't name stay unchanged.

    Raises UsageError for an unknown tensor, another dtype, a shape that the model does not accept, or a repeated name.
    """
    new_inputs = _tensors("--inputs", "input", spec.inputs, inputs)
    new_outputs = _tensors("--outputs", "output", spec.outputs, outputs)
    return Signature(
        ModelSpec(new_inputs, new_outputs),
        {given.name: given.spec.name for given in inputs if given.name != given.spec.name},
        {given.name: given.spec.name for given in outputs if given.name != given.spec.name},
    )


def _tensors(flag: str, kind: str, own: Sequence[TensorSpec], given: Sequence[GivenTensor]) -> tuple[TensorSpec, ...]:
    by_name = {tensor.name: tensor for tensor in own}
    for item in given:
        if item.name not in by_name:
            raise UsageError(f"{flag} {item!r}: the model has no {kind} {item.name}, only {', '.join(by_name)}")
        tensor = by_name[item.name]
        if tensor.dtype != item.spec.dtype or not tensor.fits(item.spec.shape):
            shape = ",".join(map(str, (-1, *tensor.shape)))
            raise UsageError(f"{flag} {item!r}: the model's {kind} {item.name} is {shape}:{tensor.dtype}")
        by_name[item.name] = replace(tensor, name=item.spec.name, shape=item.spec.shape)
    names = [tensor.name for tensor in by_name.values()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{flag}: two {kind}s would be named {twice}")
    return tuple(by_name.values())
