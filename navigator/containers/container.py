"""Conversion with ``convert --launch-mode docker``: the same command in a container that has its packages and
TensorRT."""

from __future__ import annotations

import codecs
import glob
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.core import Format
from deployment_toolkit.errors import DeviceError, UsageError
from deployment_toolkit.files.patterns import folder_of
from deployment_toolkit.hardware import gpu_names, require_gpu
from deployment_toolkit.options.params import OneLineParser, add_dataclass
from navigator.attempts import NEED_GPU
from navigator.containers.converter_image import ConverterImage
from navigator.options import ContainerOptions

logger = logging.getLogger("convert")

_INTERRUPT_GRACE_S = 15.0
# Image folders that must not be hidden by folders of this host.
_SYSTEM_NAMES = "bin dev etc home lib lib64 opt proc root run sbin sys tmp usr var"
_SYSTEM = {Path("/"), *(Path("/", name) for name in _SYSTEM_NAMES.split())}


@dataclass(frozen=True)
class ContainerJob:
    """A conversion in a container. ``argv`` is the command line after ``convert``; ``written`` are the folders that it
    changes; ``values`` are the values of all its options, some of which are paths."""

    argv: Sequence[str]
    source: Format
    targets: Sequence[Format]
    written: Sequence[Path]
    values: Sequence[Any]

    def run(self, options: ContainerOptions, *, anew: bool) -> int:
        """Runs the conversion to its end, with its output on stderr; returns its exit code. ``anew`` builds its image
        again.

        Raises UsageError if no image is named, DeviceError if a given GPU or a required GPU is missing, ContainerError
        without an engine, without the image, or if the image lacks requirements that can't be installed on it.
        """
        base, gpus = base_image(options, self.targets), find_gpus(options.gpus)
        if not gpus and all(target in NEED_GPU for target in self.targets):
            require_gpu(f"a conversion to {' and '.join(self.targets)}")
        for folder in self.written:
            folder.mkdir(parents=True, exist_ok=True)
        with ContainerEngine.connect() as engine:
            image = ConverterImage(base, {self.source, *self.targets}).find(engine, anew=anew)
            spec = self.spec(image, gpus)
            logger.info("in a container of %s: %s", spec.image, shlex.join(spec.command))
            with engine.container(spec, _stderr()) as container:
                try:
                    return container.wait() or 0
                except KeyboardInterrupt:
                    container.stop("SIGINT", _INTERRUPT_GRACE_S)
                    raise

    def spec(self, image: str, gpus: Sequence[int]) -> ContainerSpec:
        """Settings of the container: this project and the options' paths read-only, the written folders, the caller's
        user, no network."""
        written = tuple(dict.fromkeys(map(_absolute, self.written)))
        read = {ROOT, *read_folders(self.values), *({Path.cwd()} - _SYSTEM)} - set(written)
        return ContainerSpec(
            image=image,
            command=("python3", "-m", "navigator", "convert", *inner_arguments(self.argv), "--launch-mode", "local"),
            user=f"{os.getuid()}:{os.getgid()}",
            read_only=tuple(sorted(read)),
            writable=written,
            environment={"PYTHONPATH": str(ROOT), "HOME": "/tmp", "TMPDIR": str(written[0])},
            gpus=tuple(gpus),
            workdir=Path.cwd(),
        )


def inner_arguments(argv: Sequence[str]) -> list[str]:
    """Command line of ``convert`` without the options of the launch mode and its containers."""
    parser = OneLineParser(add_help=False, allow_abbrev=False)
    add_dataclass(parser, ContainerOptions)
    parser.add_argument("--launch-mode")
    parser.add_argument("--override-conversion-container", action="store_true")
    return parser.parse_known_args(argv)[1]


def base_image(options: ContainerOptions, targets: Iterable[Format]) -> str:
    """Image that is named, or the release's image. For TensorRT plans it is the server's, since only the TensorRT
    version that built a plan can load it; for the other formats it is the framework's. Within a release, the
    framework's TensorFlow and TensorRT are the versions of the server's TensorFlow backend, as models from TF-TRT need.

    Raises UsageError if none is named, or if one image can't make all targets.
    """
    plans = Format.TRT in targets
    if plans and Format.TF_TRT in targets:
        raise UsageError("trt is made in the server's image, tf-trt in the framework's: give one, then the other")
    named = options.framework_image
    if plans:
        named = options.triton_docker_image or options.framework_docker_image or options.server_image
    if named:
        return named
    raise UsageError(
        "--launch-mode docker needs an image: give --framework-docker-image (one of scripts/docker/build.sh, or "
        f"NVIDIA's){', --triton-docker-image' if plans else ''} or --container-version"
    )


def find_gpus(wanted: Sequence[str]) -> list[int]:
    """Indices from ``--gpus``: all GPUs (possibly none), or the given ones. Raises UsageError for a value that is no
    index, DeviceError for a GPU that this machine doesn't have."""
    if [text.casefold() for text in wanted] == ["all"]:
        return list(range(len(gpu_names())))
    indices = [int(text) for text in wanted if text.isdecimal()]
    if len(indices) != len(wanted):
        raise UsageError(f"--gpus {' '.join(wanted)}: give all, or indices as in 0 1")
    found = len(require_gpu(f"--gpus {' '.join(wanted)}"))
    missing = next((index for index in indices if index >= found), None)
    if missing is not None:
        raise DeviceError(f"--gpus {missing}: this machine's GPUs are 0 to {found - 1}")
    return indices


def read_folders(values: Iterable[Any]) -> Iterator[Path]:
    """Folders that contain the files, folders and file patterns in the options' values: files next to data or a model
    may belong to it."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from read_folders(value)
        elif isinstance(value, str | Path) and value != "":
            path = Path(value)
            path = _absolute(folder_of(str(path)) if glob.has_magic(str(path)) and not path.exists() else path)
            if path.exists() and path != Path.cwd():
                yield path if path.parent in _SYSTEM else path.parent


def _absolute(path: Path) -> Path:
    """Absolute path without ``..``; links stay, so that the path is the same in the container."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _stderr() -> Callable[[bytes], None]:
    """Function that writes a container's output to stderr, also characters that arrive in two parts."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(part: bytes) -> None:
        sys.stderr.write(decoder.decode(part))
        sys.stderr.flush()

    return write
