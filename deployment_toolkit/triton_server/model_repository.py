"""Models in a server's repository: ``<repository>/<model>/config.pbtxt`` and ``<repository>/<model>/<version>/``."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from deployment_toolkit.core import Host
from deployment_toolkit.files import replace_when_complete, require_free_space, size_bytes, write_text
from deployment_toolkit.triton_server.deployment import Deployment
from deployment_toolkit.triton_server.model_config import HOST_FILE, HOST_SOURCE, config_text, parse_config

_RESERVE_BYTES = 2**20  # configuration, host and folders
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def add_model(repository: Path, deployment: Deployment, source: Path) -> Path:
    """Puts the model file or folder ``source`` into the repository and returns the model's folder there.

    The version's folder appears whole, then the configuration; other versions stay. The repository's copy is its own:
    what is done to ``source`` later does not reach the server. Raises DataError if the disk has no room for it.
    """
    text = config_text(deployment)
    parse_config(text)
    folder = repository / deployment.name
    files = {deployment.model_file: source}
    weights = source.with_name(f"{source.name}.data")  # ONNX files over 2 GiB keep their tensors in a second file
    if weights.is_file():
        files[weights.name] = weights
    needed_bytes = sum(map(size_bytes, files.values())) + _RESERVE_BYTES
    require_free_space(repository, needed_bytes, f"model {deployment.name}")
    try:
        with replace_when_complete(folder / str(deployment.version)) as version_folder:
            version_folder.mkdir()
            for name, path in files.items():
                _copy(path, version_folder / name)
            if deployment.host is Host.PYTHON:
                (version_folder / HOST_FILE).write_text(HOST_SOURCE)
        write_text(folder / "config.pbtxt", text)
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
