"""OpenVINO models that a benchmark takes by name, and their deployment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deployment_toolkit.core import Batching, Format, Host, ModelSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library.openvino.arithmetic import arithmetic
from deployment_toolkit.triton_server.config_keys import INFERENCE_PRECISION


def named_models(texts: Sequence[str]) -> dict[str, Path]:
    """Parses folders by name. Raises UsageError for a text that is not NAME=FOLDER."""
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--models {text}: write NAME=FOLDER, for example fp32=converted_model")
    return {name: Path(folder) for name, _, folder in (text.partition("=") for text in texts)}


def add_to_repository(repository: Path, name: str, model: Path, spec: ModelSpec, max_batch_size: int) -> None:
    """Deploys a model on the C++ host, with dynamic batching and the model's arithmetic; ``repository`` is created."""
    repository.mkdir(parents=True)
    deployment = Deployment(
        name,
        spec,
        Format.OPENVINO,
        host=Host.CPP,
        batching=Batching.DYNAMIC,
        max_batch_size=max_batch_size,
        backend_parameters={INFERENCE_PRECISION: arithmetic(model)},
    )
    add_model(repository, deployment, model)
