"""Models that a benchmark takes by name, and their deployment on the C++ host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployment_toolkit.core import Batching, Format, Host, ModelSpec
from deployment_toolkit.deploying.deployment import CPP_PRECISIONS, Deployment, cpp_precision
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.model_files import format_of
from deployment_toolkit.library.registry import stored_precision
from deployment_toolkit.triton_server.config_keys import INFERENCE_PRECISION

TOLERANCES = {"f32": 1e-5, "f16": 0.02, "bf16": 0.02, "int8": 0.02}  # of a probability, by arithmetic


def named_models(texts: Sequence[str]) -> dict[str, Path]:
    """Parses paths by name. Raises UsageError for a text that is not NAME=PATH."""
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--models {text}: write NAME=PATH, for example fp32=converted_model")
    return {name: Path(path) for name, _, path in (text.partition("=") for text in texts)}


def hosted_format(model: Path) -> Format:
    """Format of a model that the C++ host runs. Raises UsageError for another one, or if there is none."""
    found = format_of(model) if model.exists() else None
    if found not in CPP_PRECISIONS:
        raise UsageError(f"--models: {model} is no model of {', '.join(CPP_PRECISIONS)}")
    return found


def arithmetic_of(model: Path) -> str:
    """Value of the C++ host's parameter for the arithmetic of the model."""
    model_format = hosted_format(model)
    return cpp_precision(model_format, stored_precision(model_format, model))


def add_to_repository(repository: Path, name: str, model: Path, spec: ModelSpec, max_batch_size: int) -> None:
    """Deploys a model on the C++ host, with dynamic batching and the model's arithmetic; ``repository`` is created if
    it is missing."""
    repository.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(
        name,
        spec,
        hosted_format(model),
        host=Host.CPP,
        batching=Batching.DYNAMIC,
        max_batch_size=max_batch_size,
        backend_parameters={INFERENCE_PRECISION: arithmetic_of(model)},
    )
    add_model(repository, deployment, model)
