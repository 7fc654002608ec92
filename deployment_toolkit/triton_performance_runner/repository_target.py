"""Model to measure, read from its files in a model repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.cpp_host.library import BACKEND as CPP_HOST
from deployment_toolkit.deploying.deployment import DTYPES
from deployment_toolkit.deploying.model_config import read_config
from deployment_toolkit.errors import UsageError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.target import Target, shaped_target
from deployment_toolkit.triton_server.remote import described_spec

_BACKENDS = ("python", CPP_HOST)
_NUMPY_NAMES = {triton: numpy for numpy, triton in DTYPES.items()}


def find_repository_target(options: PerformanceOptions) -> Target:
    """Reads the model's ``config.pbtxt``, without a server. Only the protocol of the URL, from ``server_url``, counts.

    Raises UsageError if the repository or the model is missing, the embedded server can't serve the model or this
    version, a batch is larger than the model takes, or a shape is missing or does not fit; ModelError if its
    configuration can't be read.
    """
    assert options.model_repository is not None, "PerformanceOptions require one for this tool"
    path = options.model_repository / options.model_name / "config.pbtxt"
    if not path.is_file():
        held = sorted(item.parent.name for item in options.model_repository.glob("*/config.pbtxt"))
        raise UsageError(
            f"--model-repository {options.model_repository} has no {options.model_name}/config.pbtxt: it holds "
            f"{', '.join(held) or 'no model'}"
        )
    config = read_config(path)
    _require_servable(config, options, path)
    spec = ModelSpec(
        tuple(_tensor_spec(item, config.max_batch_size, path) for item in config.input),
        tuple(_tensor_spec(item, config.max_batch_size, path) for item in config.output),
    )
    parameters = {key: {"string_value": value.string_value} for key, value in config.parameters.items()}
    spec = spec.described_by(described_spec(options.model_name, parameters))
    return shaped_target(options, ServerUrl.parse(options.server_url), spec, config.max_batch_size)


def _require_servable(config: Any, options: PerformanceOptions, path: Path) -> None:
    instead = "use --performance-tool perf_analyzer with a server that runs it"
    if config.WhichOneof("scheduling_choice") == "ensemble_scheduling":
        raise UsageError(
            f"{options.model_name} is an ensemble, for which Model Analyzer runs its own search and measures no "
            f"given points: {instead}"
        )
    if config.backend not in _BACKENDS:
        backend = config.backend or config.platform or "none"
        raise UsageError(
            f"{path} names the backend {backend}; the server that Model Analyzer starts is the embedded one, which has "
            f"only {' and '.join(_BACKENDS)}: {instead}"
        )
    if not config.input or not config.output:
        raise UsageError(f"{path} does not name the model's inputs and outputs: deploy it with a complete one")
    served = _served_versions(config, path.parent)
    if options.model_version not in served:
        raise UsageError(
            f"--model-version {options.model_version} would not be served: {path.parent} gives a server version "
            f"{' and '.join(served) or 'none'}"
        )


def _served_versions(config: Any, folder: Path) -> list[str]:
    """Versions that a server loads by the model's version policy, by default the latest."""
    there = sorted(int(item.name) for item in folder.iterdir() if item.name.isdigit() and int(item.name) > 0)
    policy = config.version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "specific":
        there = [version for version in there if version in policy.specific.versions]
    elif choice != "all":
        there = there[-(policy.latest.num_versions or 1) :]
    return [str(version) for version in there]


def _tensor_spec(tensor: Any, max_batch_size: int, path: Path) -> TensorSpec:
    """Signature of a tensor; if the server does not batch, the first dimension is the model's batch dimension."""
    name = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number[tensor.data_type].name
    if name not in _NUMPY_NAMES:
        raise UsageError(f"{path}: tensor {tensor.name} is of type {name}, for which no rows can be made")
    shape = tuple(tensor.dims) if max_batch_size else tuple(tensor.dims)[1:]
    return TensorSpec(tensor.name, _NUMPY_NAMES[name], shape)
