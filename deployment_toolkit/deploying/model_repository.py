"""Files of models in a server's repository: ``<model>/config.pbtxt`` and the folder ``<model>/<version>``, in which
``SHA256SUMS`` lists the others. Both hosts compare them with it before they load the model."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from deployment_toolkit.core import Format, Host, LoadMethod, ModelSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_config import HOST_FILE, config_text, host_source, parse_config
from deployment_toolkit.deploying.warmup import FOLDER, row_files
from deployment_toolkit.errors import ModelError
from deployment_toolkit.files.atomic import replace_when_complete, require_free_space, size_bytes, write_text
from deployment_toolkit.files.checksums import CHECKSUMS, checksums_of, checksums_text
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.library.model_files import require_format, weight_files
from deployment_toolkit.options.params import option

_FOLDERS = (Format.TF_SAVEDMODEL, Format.TF_TRT)  # copied as folders; for other formats the folder's files are copied
_BYTE_CODE = "__pycache__"  # made by the Python backend
_OWN = (HOST_FILE, _BYTE_CODE, CHECKSUMS)
_RESERVE_BYTES = 2**20  # configuration, host and folders
_NO_KERNEL_COPY = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Package:
    """A model's files in a repository: the text of its ``config.pbtxt`` and, by their paths in the version's folder,
    the files and folders to copy and the small texts to write."""

    name: str
    version: int
    spec: ModelSpec
    config: str
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    links: bool = False  # hard links instead of copies
    warmup: Mapping[str, bytes] = field(default_factory=dict)  # files in the model's folder for it


@dataclass(frozen=True)
class Placed:
    """A model's folder in the repository, and flags for the parts that were written; the rest was there already."""

    folder: Path
    copied: bool
    configured: bool


def add_model(repository: Path, deployment: Deployment, source: Path, *, links: bool = False) -> Placed:
    """Puts the model file or folder ``source`` into the repository, as ``add_package`` does. With ``links``, its files
    are hard links to those of the source, which is in the same repository; so the C++ host sees that the model is the
    same.

    Raises ModelError if the source is no model of the deployment's format, DataError if the disk is too full.
    """
    files = _model_files(deployment, source)
    texts = {HOST_FILE: host_source()} if deployment.host is Host.PYTHON else {}
    config = config_text(deployment)
    warmup = row_files(deployment.spec) if deployment.warmup_batch_sizes else {}
    package = Package(deployment.name, deployment.version, deployment.spec, config, files, texts, links, warmup)
    return add_package(repository, package)


def _model_files(deployment: Deployment, source: Path) -> dict[str, Path]:
    """Files of the model by their names in the version's folder. Raises ModelError if the source has another format."""
    require_format(source, deployment.format)
    if source.is_dir() and deployment.format not in _FOLDERS:
        return {path.name: path for path in sorted(source.iterdir())}
    weights = weight_files(source)
    if deployment.format is Format.OPENVINO:  # named after the file
        weights = {Path(deployment.model_file).with_suffix(path.suffix).name: path for path in weights.values()}
    taken = next((name for name in weights if PurePosixPath(name).parts[0] in (deployment.model_file, *_OWN)), None)
    if taken is not None:
        raise ModelError(f"{source} keeps weights in {taken}, a name that the server needs: save it with another name")
    return {deployment.model_file: source, **weights}


def add_package(repository: Path, package: Package) -> Placed:
    """Puts a model into the repository; files that are there with the same content stay.

    The version's folder appears whole, then the configuration; other versions stay. The repository has a separate copy:
    later changes of the source files do not affect the server. Raises ModelError if the configuration can't be parsed,
    DataError if the disk is too full.
    """
    parse_config(package.config)
    folder = repository / package.name
    version_folder = folder / str(package.version)
    sums = checksums_of(package.files)
    texts = _texts(package, sums)
    copied = not _holds_files(version_folder, package, sums)
    try:
        if copied:
            _copy_version(version_folder, package, texts)
        else:
            _write_texts(version_folder, texts)
        _write_warmup(folder / FOLDER, package)
        configured = _read(folder / "config.pbtxt") != package.config
        if configured:
            write_text(folder / "config.pbtxt", package.config)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # empty if the first version failed
    return Placed(folder, copied, configured)


def _texts(package: Package, sums: Mapping[str, str]) -> dict[str, str]:
    """Small files of the package's version folder, with the checksums of the others. The code that the server's
    Python backend reads by itself has none."""
    listed = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in package.texts.items()}
    listed.pop(HOST_FILE, None)
    sums = dict(sorted({**sums, **listed}.items()))
    return {**package.texts, CHECKSUMS: checksums_text(sums)} if sums else dict(package.texts)


def _holds_files(version_folder: Path, package: Package, sums: Mapping[str, str]) -> bool:
    """True if the version's folder has the package's files with the same content, and no other files."""
    if not version_folder.is_dir():
        return False
    known = {PurePosixPath(name).parts[0] for name in (*package.files, *package.texts, *_OWN)}
    if any(item.name not in known for item in entries(version_folder)):
        return False
    if package.links:
        return all(_is_linked(path, version_folder / name) for name, path in package.files.items())
    there = {name: version_folder / name for name in package.files}
    return all(path.exists() for path in there.values()) and checksums_of(there) == sums


def _write_texts(version_folder: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        if _read(version_folder / name) != text:
            write_text(version_folder / name, text)
    if HOST_FILE not in texts:
        (version_folder / HOST_FILE).unlink(missing_ok=True)  # from an earlier configuration with the Python host


def _write_warmup(folder: Path, package: Package) -> None:
    for name, content in package.warmup.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            with replace_when_complete(path) as beside:
                beside.write_bytes(content)


def _copy_version(version_folder: Path, package: Package, texts: Mapping[str, str]) -> None:
    with replace_when_complete(version_folder, replaces_all=True) as beside:
        disk = beside.parent.stat().st_dev
        copied = [path for path in package.files.values() if not package.links or path.stat().st_dev != disk]
        needed_bytes = sum(map(size_bytes, copied)) + _RESERVE_BYTES
        require_free_space(beside.parent, needed_bytes, f"model {package.name}")
        beside.mkdir()
        for name, path in package.files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            _copy(path, beside / name, links=package.links)
        for name, text in texts.items():
            (beside / name).write_text(text)


def _read(path: Path) -> str | None:
    return path.read_bytes().decode(errors="replace") if path.is_file() else None


def _is_linked(source: Path, target: Path) -> bool:
    """True if both are the same file, or folders of the same files."""
    if not source.is_dir():
        return target.is_file() and target.samefile(source)
    names = {path.name for path in source.iterdir()}
    return (
        target.is_dir()
        and {path.name for path in target.iterdir()} == names
        and all(_is_linked(source / name, target / name) for name in names)
    )


def _copy(source: Path, target: Path, *, links: bool = False) -> None:
    """Copies a file or folder with new modification times, from which a server sees the change; or links its files, if
    the file system can."""
    if source.is_dir():
        target.mkdir()
        for item in source.iterdir():
            _copy(item, target / item.name, links=links)
        return
    if links:
        with contextlib.suppress(OSError):
            target.hardlink_to(source)
            return
    try:
        with source.open("rb") as reading, target.open("wb") as writing:
            # The kernel's copy shares the blocks if the file system can.
            while os.copy_file_range(reading.fileno(), writing.fileno(), 2**30):
                pass
    except OSError as error:
        if error.errno not in _NO_KERNEL_COPY:
            raise
        shutil.copyfile(source, target)


@dataclass(frozen=True)
class RepositoryOptions:
    """Options of the model repository and of loading the model."""

    model_repository: Path = option("the server's model repository")
    load_model: bool = option("load the model on the server, and send a request of one row", False)
    load_model_timeout_s: float = option("time limit of loading, in seconds", 100.0)
    model_control_mode: LoadMethod = option(
        "explicit: the server gets a load request; poll: it watches its repository", LoadMethod.EXPLICIT
    )
    server_url: str = option(
        "the server, as grpc://host:port or http://host:port, with TLS grpcs:// or https://", "grpc://localhost:8001"
    )
