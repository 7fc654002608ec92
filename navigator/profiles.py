"""Input shapes for which a converted model is made and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.shape_profile import Shape, ShapeProfile
from deployment_toolkit.options.params import option
from navigator.values import Named, by_name, named, parse_shape

_SHAPES: Mapping[str, Any] = {"type": named(parse_shape), "nargs": "+", "adds_up": True, "metavar": "INPUT=D0,D1,…"}


@dataclass(frozen=True)
class ShapeOptions:
    """Options of the inputs' shapes, the batch dimension first."""

    max_batch_size: int = option("largest batch; the batch dimension of --max-shapes wins", 32)
    min_shapes: list[Named[Shape]] = option("smallest shape of inputs; else 1 in every open dimension", [], **_SHAPES)
    opt_shapes: list[Named[Shape]] = option("shape of inputs to tune for; else the largest", [], **_SHAPES)
    max_shapes: list[Named[Shape]] = option("largest shape of inputs; else the largest batch", [], **_SHAPES)

    def __post_init__(self) -> None:
        if self.max_batch_size < 1:
            raise UsageError(f"--max-batch-size must be at least 1, not {self.max_batch_size}")


@dataclass(frozen=True)
class ShapeBounds:
    """Smallest and largest batch, and the profile of each input whose dimensions are known or bounded."""

    min_batch: int
    max_batch: int
    profiles: Mapping[str, ShapeProfile]

    def require_all(self, spec: ModelSpec, what: str) -> None:
        """Raises UsageError if an input has no profile."""
        open_inputs = [tensor.name for tensor in spec.inputs if tensor.name not in self.profiles]
        if open_inputs:
            raise UsageError(f"{what} needs bounds of every dimension: give --max-shapes of {', '.join(open_inputs)}")

    def fixed(self, spec: ModelSpec, which: Literal["min", "opt", "max"]) -> ModelSpec:
        """Signature in which each input has this shape of its profile."""
        inputs = tuple(
            replace(tensor, shape=getattr(self.profiles[tensor.name], which)[1:])
            if tensor.name in self.profiles
            else tensor
            for tensor in spec.inputs
        )
        return ModelSpec(inputs, spec.outputs)


def find_bounds(options: ShapeOptions, spec: ModelSpec) -> ShapeBounds:
    """Converts the options to shapes of this model's inputs.

    Raises UsageError, which names option and input, for a shape that the model does not accept, bounds in the wrong
    order and batch dimensions that differ between inputs.
    """
    names = [tensor.name for tensor in spec.inputs]
    given = {
        flag: by_name(flag, shapes, names)
        for flag, shapes in (
            ("--min-shapes", options.min_shapes),
            ("--opt-shapes", options.opt_shapes),
            ("--max-shapes", options.max_shapes),
        )
    }
    for flag, shapes in given.items():
        for tensor in spec.inputs:
            if tensor.name in shapes:
                _check(flag, tensor, shapes[tensor.name])
    max_batch = _batch("--max-shapes", given["--max-shapes"], options.max_batch_size)
    opt_batch = _batch("--opt-shapes", given["--opt-shapes"], max_batch)
    min_batch = _batch("--min-shapes", given["--min-shapes"], 1)
    batches = {"--min-shapes": min_batch, "--opt-shapes": opt_batch, "--max-shapes": max_batch}
    if not min_batch <= opt_batch <= max_batch:
        told = ", ".join(f"{flag} {size}" for flag, size in batches.items())
        raise UsageError(f"the batch dimensions are out of order: {told}, or --max-batch-size is too small")
    profiles = {}
    for tensor in spec.inputs:
        profile = _profile(tensor, given, batches)
        if profile is not None:
            profiles[tensor.name] = profile
    return ShapeBounds(min_batch, max_batch, profiles)


def _check(flag: str, tensor: TensorSpec, shape: Shape) -> None:
    if not tensor.fits(shape[1:]):
        told, known = ",".join(map(str, shape)), ",".join(map(str, ("batch", *tensor.shape)))
        raise UsageError(f"{flag} {tensor.name}={told}: the model takes {known} there (-1 is any size)")


def _batch(flag: str, shapes: Mapping[str, Shape], default: int) -> int:
    sizes = {shape[0] for shape in shapes.values()}
    if len(sizes) > 1:
        raise UsageError(f"{flag}: one batch has one size, not {' and '.join(map(str, sorted(sizes)))}")
    return sizes.pop() if sizes else default


def _profile(
    tensor: TensorSpec, given: Mapping[str, Mapping[str, Shape]], batches: Mapping[str, int]
) -> ShapeProfile | None:
    """Profile of an input; None if an open dimension has no bounds."""
    largest = given["--max-shapes"].get(tensor.name, (batches["--max-shapes"], *tensor.shape))
    if -1 in largest:
        told = next((flag for flag, shapes in given.items() if tensor.name in shapes), None)
        if told is not None:
            raise UsageError(f"{told} of {tensor.name}: it has open dimensions, give its --max-shapes too")
        return None
    smallest = given["--min-shapes"].get(tensor.name, (batches["--min-shapes"], *tensor.smallest_shape))
    best = given["--opt-shapes"].get(tensor.name, (batches["--opt-shapes"], *largest[1:]))
    try:
        return ShapeProfile(smallest, best, largest)
    except UsageError as error:
        raise UsageError(f"--min-shapes, --opt-shapes and --max-shapes of {tensor.name}: {error}") from error
