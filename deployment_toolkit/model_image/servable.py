"""Whether a model repository can be served elsewhere: by an image that has neither this checkout nor its packages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from deployment_toolkit.core import Format
from deployment_toolkit.cpp_host.library import BACKEND
from deployment_toolkit.deploying.model_config import read_config
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.files.checksums import require_unchanged
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.triton_server.config_keys import MODEL_FILE, MODEL_FORMAT

CONFIG = "config.pbtxt"
ENGINES = (Format.OPENVINO,)  # of the C++ host in Dockerfile.serving

_DEPLOY = "deploy it (model-navigator triton-config-model)"


@dataclass(frozen=True)
class ServableModel:
    """A model of a repository: its folder and its configuration, the message of its ``config.pbtxt``."""

    folder: Path
    config: Any

    @property
    def parameters(self) -> dict[str, str]:
        """The configuration's parameters."""
        return {key: value.string_value for key, value in self.config.parameters.items()}

    @property
    def is_hosted(self) -> bool:
        """True for a model of the C++ host, and for an ensemble, which runs in no backend."""
        return self.config.backend == BACKEND or bool(self.config.ensemble_scheduling.step)


def servable_models(repository: Path) -> list[ServableModel]:
    """The models of a repository, sorted by name; a server without model control loads them all.

    Raises DataError if there is no repository or no model in it; ModelError if a model could not be loaded: without a
    configuration of its own name, without its versions or their files, with files that have changed since they were
    deployed, with a path of this host in its configuration, on an engine of the C++ host that the serving image lacks,
    or in a process of Python.
    """
    if not repository.is_dir():
        raise DataError(f"there is no model repository at {repository}: give an existing folder")
    folders = [item for item in entries(repository) if item.is_dir()]
    if not folders:
        raise DataError(f"{repository} holds no model: give the folder that holds the models' folders")
    models = [ServableModel(folder, _config(folder)) for folder in folders]
    names = {folder.name for folder in folders}
    for model in models:
        _require_backend(model)
        _require_no_path(model)
        for step in model.config.ensemble_scheduling.step:
            if step.model_name not in names:
                raise ModelError(
                    f"{model.folder} passes requests to {step.model_name}, which is not in {repository}: deploy it too"
                )
        for version in _versions(model):
            _require_version(model, version)
    return models


def _config(folder: Path) -> Any:
    path = folder / CONFIG
    if not path.is_file():
        raise ModelError(f"{folder} has no {CONFIG}: {_DEPLOY}, or move what is no model elsewhere")
    config = read_config(path)
    if config.name != folder.name:
        raise ModelError(f"{path} is of the model {config.name!r}: name its folder so, or {_DEPLOY}")
    return config


def _require_backend(model: ServableModel) -> None:
    backend = model.config.backend
    if backend == "python":
        raise ModelError(
            f"{model.folder} runs in a process of Python, with packages of this host, which no image that only serves "
            "has: deploy it with --host cpp, or with --host native for NVIDIA's image"
        )
    found = model.parameters.get(MODEL_FORMAT)
    if backend == BACKEND and found not in list(map(str, ENGINES)):
        raise ModelError(
            f"{model.folder} is of the format {found}, for which the C++ host of the serving image has no engine: "
            f"convert it to {' or '.join(ENGINES)}, or deploy it with --host native for NVIDIA's image"
        )


def _require_no_path(model: ServableModel) -> None:
    """Raises ModelError if the configuration names an absolute path."""
    for field, value in _texts(json_format.MessageToDict(model.config, preserving_proto_field_name=True)):
        if value.startswith("/"):
            raise ModelError(
                f"{model.folder / CONFIG} names {value} of this host ({field}): put the file into the model's folder, "
                "and name it from there"
            )


def _texts(value: Any, field: str = "") -> Iterator[tuple[str, str]]:
    """Texts in a configuration, with the fields in which they are."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _texts(part, f"{field}.{key}" if field else key)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part, field)
    elif isinstance(value, str):
        yield field, value


def _versions(model: ServableModel) -> list[str]:
    """Names of the version folders that a server loads."""
    there = sorted((item.name for item in entries(model.folder) if item.is_dir() and item.name.isdigit()), key=int)
    policy = model.config.version_policy
    wanted = [str(version) for version in policy.specific.versions] or there
    missing = sorted({*wanted} - {*there}, key=int)
    if missing or not wanted:
        what = f"version {missing[0]}, which its configuration names" if missing else "version"
        raise ModelError(f"{model.folder} has no {what}: {_DEPLOY}")
    return wanted


def _require_version(model: ServableModel, version: str) -> None:
    folder = model.folder / version
    require_unchanged(folder)
    file = model.parameters.get(MODEL_FILE) or model.config.default_model_filename
    if file and not (folder / file).exists():
        raise ModelError(f"{folder} has no {file}, which the configuration names: {_DEPLOY}")
