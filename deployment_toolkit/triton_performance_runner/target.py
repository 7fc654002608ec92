"""Model to measure, as its server describes it."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import MODEL_FILES
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.perf_data import InputData
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("performance")


@dataclass(frozen=True)
class Target:
    """A model to measure. ``free_inputs`` are the inputs whose shape the server leaves open; ``spec`` has their shapes
    from ``--input-shapes``. ``max_batch_size`` 0: the server does not batch."""

    url: ServerUrl
    name: str
    version: str
    spec: ModelSpec
    free_inputs: tuple[str, ...]
    max_batch_size: int


def find_target(options: PerformanceOptions, access: AccessOptions) -> Target:
    """Describes the model by requests to the server.

    Raises ServerError if the server or the model is missing, UsageError if a batch is larger than the model takes or
    a shape is missing or does not fit.
    """
    url = access.url(options.server_url)
    server = TritonServer.from_url(url)
    server.require_model(options.model_name, options.model_version)
    spec = server.model_spec(options.model_name, options.model_version)
    max_batch_size = server.model_config(options.model_name, options.model_version)["max_batch_size"]
    return shaped_target(options, url, spec, max_batch_size)


def shaped_target(options: PerformanceOptions, url: ServerUrl, spec: ModelSpec, max_batch_size: int) -> Target:
    """Target with the options applied: batch sizes checked, open shapes set, value ranges filled in if they are known.
    Raises UsageError if the options don't fit the signature."""
    largest = max(options.batch_sizes)
    if largest > max(1, max_batch_size):
        can = f"takes at most {max_batch_size} rows" if max_batch_size else "is deployed without batching: 1 row"
        raise UsageError(f"--batch-sizes holds {largest}, model {options.model_name} {can}")
    free_inputs = tuple(tensor.name for tensor in spec.inputs if -1 in tensor.shape)
    spec = _with_shapes(spec, _parse_shapes(options.input_shapes))
    if options.model_repository is not None and not spec.value_ranges:
        spec = spec.described_by(_spec_of_files(options, options.model_repository))
    return Target(url, options.model_name, options.model_version, spec, free_inputs, max_batch_size)


def _parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for text in texts:
        name, _, dimensions = text.rpartition(":")
        try:
            shape = tuple(int(dimension) for dimension in dimensions.split(","))
        except ValueError:
            shape = ()
        if not name or not shape or min(shape) < 1:
            raise UsageError(f"--input-shapes {text}: write NAME:D0,D1 with whole numbers, for example x:3,224")
        shapes[name] = shape
    return shapes


def _with_shapes(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> ModelSpec:
    names = [tensor.name for tensor in spec.inputs]
    unknown = sorted(shapes.keys() - set(names))
    if unknown:
        raise UsageError(f"--input-shapes names {', '.join(unknown)}, the model's inputs are {', '.join(names)}")
    return ModelSpec(tuple(_with_shape(tensor, shapes) for tensor in spec.inputs), spec.outputs)


def _with_shape(tensor: TensorSpec, shapes: Mapping[str, tuple[int, ...]]) -> TensorSpec:
    shape = shapes.get(tensor.name, tensor.shape)
    if not tensor.fits(shape):
        raise UsageError(f"--input-shapes {tensor.name}:{list(shape)} does not fit the model's {list(tensor.shape)}")
    if -1 in shape:
        raise UsageError(
            f"input {tensor.name} has the free shape {list(shape)}: give --input-shapes {tensor.name}:SHAPE"
        )
    return dataclasses.replace(tensor, shape=shape)


def _spec_of_files(options: PerformanceOptions, repository: Path) -> ModelSpec | None:
    """Signature, with value ranges and columns, in the model's files; None if no file has one."""
    folder = repository / options.model_name / options.model_version
    if not folder.is_dir():
        raise UsageError(f"--model-repository {repository} does not hold {folder.relative_to(repository)}")
    for model_format, file_name in MODEL_FILES.items():
        if (folder / file_name).exists() and model_format in registry.LOADERS:
            logger.info("reading value ranges from %s", folder / file_name)
            return registry.read_spec(model_format, folder / file_name)
    return None


@dataclass(frozen=True)
class Assignment:
    """A measurement for a tool. ``folder`` is only for the tool; ``env`` is the environment of its processes, None for
    this process's environment. ``client`` is the process that measures with all that it starts, None for this one."""

    options: PerformanceOptions
    target: Target
    data: InputData
    folder: Path
    env: Mapping[str, str] | None = None
    client: int | None = None
