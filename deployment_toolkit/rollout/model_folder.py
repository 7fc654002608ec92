"""Models in a repository, as a roll-out reads and copies them, and whether one can follow another."""

from __future__ import annotations

import contextlib
import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import ModelSpec
from deployment_toolkit.deploying.model_config import HOST_FILE, complete_text, read_config
from deployment_toolkit.deploying.model_repository import Package
from deployment_toolkit.deploying.warmup import FOLDER
from deployment_toolkit.errors import DeploymentError, ModelError, UsageError
from deployment_toolkit.files.checksums import CHECKSUMS, checksums_of, require_unchanged
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.files.texts import read_text
from deployment_toolkit.triton_server.config_keys import MODEL_SPEC

CONFIG = "config.pbtxt"
_BYTE_CODE = "__pycache__"
_ENSEMBLE = "ensemble"
# What replaces an ensemble, or a model in one: the ensemble asks for its models by their names and versions.
ANEW = "deploy the new ensemble and its models under other names, check it by hand, and have clients ask for it"
# What concerns how requests are queued and computed. The rest of a configuration belongs to one version's files.
_OF_ANY_VERSION = ("name", "version_policy", "instance_group", "dynamic_batching", "model_warmup")


@dataclass(frozen=True)
class ModelFolder:
    """A model's folder in a repository, and its configuration, as text and as a ``ModelConfig`` message."""

    path: Path
    text: str
    config: Any

    @classmethod
    def read(cls, path: Path) -> ModelFolder:
        """Raises UsageError if there is no model at ``path``, ModelError if it is an ensemble or if its configuration
        is damaged."""
        if not (path / CONFIG).is_file():
            raise UsageError(f"{path} is no model of a repository, it has no {CONFIG}: give a model's folder")
        found = cls(path, read_text(path / CONFIG), read_config(path / CONFIG))
        if found.config.platform == _ENSEMBLE:
            raise ModelError(f"{path} is an ensemble, and no roll-out replaces one or its models: {ANEW}")
        return found

    @property
    def numbers(self) -> list[int]:
        """Numbers of the version folders, ascending."""
        return sorted(int(item.name) for item in entries(self.path) if item.is_dir() and item.name.isdecimal())

    @property
    def warmup(self) -> dict[str, bytes]:
        """Files of rows for the warm-up, by name."""
        return warmup_files(self.path)

    def only_version(self) -> int:
        """The number of the only version. Raises UsageError if there are others."""
        if len(self.numbers) != 1:
            held = f"versions {_listed(self.numbers)}" if self.numbers else "no version"
            raise UsageError(f"{self.path} holds {held}: a candidate has the folder of one version")
        return self.numbers[0]

    def policy(self) -> tuple[int, ...]:
        """Versions that the configuration asks for. Raises ModelError if it does not name them."""
        versions = tuple(self.config.version_policy.specific.versions)
        if not versions:
            raise ModelError(
                f"{self.path / CONFIG} does not say which versions are served, so that a new one would be served at "
                "once: write version_policy { specific { versions: [ 1 ] } } and load the model again"
            )
        return versions

    def package(self, version: int, *, name: str, number: int, policy: Sequence[int], links: bool = False) -> Package:
        """The files of a version as version ``number`` of the model ``name``, which serves the versions ``policy``.
        Raises ModelError if a file is not the one that was deployed."""
        folder = self.path / str(version)
        require_unchanged(folder)
        own = (CHECKSUMS, _BYTE_CODE, HOST_FILE)
        files = {item.name: item for item in entries(folder) if item.name not in own}
        texts = {HOST_FILE: read_text(folder / HOST_FILE)} if (folder / HOST_FILE).is_file() else {}
        config = config_as(self.config, name, policy)
        return Package(name, number, _spec(self) or ModelSpec((), ()), config, files, texts, links, self.warmup)


def warmup_files(folder: Path) -> dict[str, bytes]:
    """Files in the folder ``warmup`` of ``folder``, by name; none if there is none."""
    where = folder / FOLDER
    return {item.name: item.read_bytes() for item in entries(where) if item.is_file()} if where.is_dir() else {}


def digest_of(package: Package) -> str:
    """SHA-256 of a package's files, its small texts, its warm-up and its configuration."""
    digest = hashlib.sha256(package.config.encode())
    for name, text in (*checksums_of(package.files).items(), *sorted(package.texts.items())):
        digest.update(f"{name}\0{text}\0".encode())
    for name, content in sorted(package.warmup.items()):
        digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


def config_as(config: Any, name: str, versions: Sequence[int]) -> str:
    """Text of a ``config.pbtxt`` with another name, which serves these versions."""
    changed = copy.deepcopy(config)
    changed.name = name
    changed.ClearField("version_policy")
    changed.version_policy.specific.versions.extend(versions)
    return complete_text(changed)


def require_fit(candidate: ModelFolder, live: ModelFolder) -> None:
    """Raises ModelError unless each request that the live model answers fits the candidate and means the same to it."""
    problem = next(_misfits(candidate, live), None)
    if problem is not None:
        raise ModelError(
            f"{candidate.path} can't follow {live.path}, requests that fit now would fail or mean something else: "
            f"{problem}: deploy it as a model of another name"
        )


def why_not_beside(candidate: Any, live: Any) -> str | None:
    """The fields of the configurations, ``ModelConfig`` messages, that keep the two models from being versions of one
    model, which has one configuration for all; None if there are none."""
    fields: set[str] = set()
    for message in (candidate, live):
        fields |= {field.name for field, _ in message.ListFields()} - set(_OF_ANY_VERSION)
    other = sorted(name for name in fields if _value(candidate, name) != _value(live, name))
    return ", ".join(other) or None


def ensembles_with(repository: Path, name: str) -> list[str]:
    """Ensembles of the repository of which the model is a step."""
    found = []
    for path in sorted(repository.glob(f"*/{CONFIG}")):
        with contextlib.suppress(DeploymentError):  # a damaged one can't be served
            if any(step.model_name == name for step in read_config(path).ensemble_scheduling.step):
                found.append(path.parent.name)
    return found


def _misfits(candidate: ModelFolder, live: ModelFolder) -> Iterator[str]:
    new, old = candidate.config, live.config
    for what in ("input", "output"):
        wanted, found = _tensors(getattr(old, what)), _tensors(getattr(new, what))
        for name in sorted(wanted.keys() | found.keys()):
            if wanted.get(name) != found.get(name):
                yield f"{what} {name} is {_told(found.get(name))} instead of {_told(wanted.get(name))}"
    if (new.max_batch_size == 0) != (old.max_batch_size == 0) or new.max_batch_size < old.max_batch_size:
        yield f"max_batch_size is {new.max_batch_size} instead of {old.max_batch_size}"
    new_spec, old_spec = _spec(candidate), _spec(live)
    if new_spec is None or old_spec is None:
        return
    if _columns(new_spec) != _columns(old_spec):
        yield "its packed inputs have other columns"
    ranges = old_spec.value_ranges
    for name, (least, most) in new_spec.value_ranges.items():
        if name not in ranges:
            yield f"input {name} takes {least} to {most} instead of any value"
        elif not (least <= ranges[name][0] and ranges[name][1] <= most):
            yield f"input {name} takes {least} to {most} instead of {ranges[name][0]} to {ranges[name][1]}"


def _columns(spec: ModelSpec) -> list[list[tuple[str, str, tuple[int, ...]]]]:
    """The columns of each input in order, which say what the values of a packed row mean."""
    return [[(part.name, part.dtype, part.shape) for part in item.columns] for item in spec.inputs]


def _spec(folder: ModelFolder) -> ModelSpec | None:
    """The signature in the configuration, with value ranges and columns; None if it has none."""
    if MODEL_SPEC not in folder.config.parameters:
        return None
    return ModelSpec.read(folder.config.parameters[MODEL_SPEC].string_value, str(folder.path / CONFIG))


def _tensors(fields: Any) -> Mapping[str, tuple[str, list[int], bool]]:
    found = {}
    for item in fields:
        kinds = item.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        optional = bool(getattr(item, "optional", False))  # an output has no such field
        found[item.name] = (kinds[item.data_type].name, list(item.dims), optional)
    return found


def _told(tensor: tuple[str, list[int], bool] | None) -> str:
    if tensor is None:
        return "missing"
    dtype, dims, is_optional = tensor
    return f"{dtype} {dims}{', optional' if is_optional else ''}"


def _value(config: Any, name: str) -> Any:
    value = getattr(config, name)
    return {key: value[key].string_value for key in value} if name == "parameters" else str(value)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
