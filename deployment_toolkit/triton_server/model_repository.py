"""Models in a server's repository: ``<repository>/<model>/config.pbtxt`` and ``<repository>/<model>/<version>/``."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deployment_toolkit.core import Format, Host, ModelSpec
from deployment_toolkit.files import replace_when_complete, require_free_space, size_bytes, write_text
from deployment_toolkit.model_files import require_format
from deployment_toolkit.triton_server.deployment import Deployment
from deployment_toolkit.triton_server.model_config import HOST_FILE, HOST_SOURCE, config_text, parse_config

_FOLDERS = (Format.TF_SAVEDMODEL, Format.TF_TRT)  # copied as they are; of the others, what they hold
_RESERVE_BYTES = 2**20  # configuration, host and folders
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Package:
    """A model as it lies in a repository: the text of its ``config.pbtxt`` and, by their names in the version's
    folder, the files and folders to copy there and the small texts to write there."""

    name: str
    version: int
    spec: ModelSpec
    config: str
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def add_model(repository: Path, deployment: Deployment, source: Path) -> Path:
    """Puts the model file or folder ``source`` into the repository and returns the model's folder there.

    Raises ModelError if the source is no model of the deployment's format, DataError if the disk has no room for it.
    """
    files = _model_files(deployment, source)
    texts = {HOST_FILE: HOST_SOURCE} if deployment.host is Host.PYTHON else {}
    config = config_text(deployment)
    return add_package(repository, Package(deployment.name, deployment.version, deployment.spec, config, files, texts))


def _model_files(deployment: Deployment, source: Path) -> dict[str, Path]:
    """By their names in the version's folder. Raises ModelError if the source is not of the deployment's format."""
    require_format(source, deployment.format)
    if source.is_dir() and deployment.format not in _FOLDERS:
        return {path.name: path for path in sorted(source.iterdir())}
    files = {deployment.model_file: source}
    if deployment.format is Format.OPENVINO:
        files[Path(deployment.model_file).with_suffix(".bin").name] = source.with_suffix(".bin")
    weights = source.with_name(f"{source.name}.data")  # ONNX files over 2 GiB keep their tensors in a second file
    if weights.is_file():
        files[weights.name] = weights
    return files


def add_package(repository: Path, package: Package) -> Path:
    """Puts a model into the repository and returns its folder there.

    The version's folder appears whole, then the configuration; other versions stay. The repository's copy is its own:
    what is done to the files later does not reach the server. Raises ModelError if the configuration is none, DataError
    if the disk has no room.
    """
    parse_config(package.config)
    folder = repository / package.name
    needed_bytes = sum(map(size_bytes, package.files.values())) + _RESERVE_BYTES
    require_free_space(repository, needed_bytes, f"model {package.name}")
    try:
        with replace_when_complete(folder / str(package.version)) as version_folder:
            version_folder.mkdir()
            for name, path in package.files.items():
                _copy(path, version_folder / name)
            for name, text in package.texts.items():
                (version_folder / name).write_text(text)
        write_text(folder / "config.pbtxt", package.config)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # left empty by a first version that failed
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copies a file or folder with new times, by which a server knows that it changed."""
    if source.is_dir():
        target.mkdir()
        for item in source.iterdir():
            _copy(item, target / item.name)
        return
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            # The kernel's copy shares the blocks where the file system can.
            while os.copy_file_range(reading.fileno(), writing.fileno(), 2**30):
                pass
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
        shutil.copyfile(source, target)
