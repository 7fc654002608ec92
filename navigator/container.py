"""``convert --launch-mode docker``: the same command in a container, where its packages and its TensorRT are."""

from __future__ import annotations

import codecs
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import navigator
from deployment_toolkit.container_spec import ContainerSpec
from deployment_toolkit.containers import ContainerEngine
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ContainerError, DeviceError, UsageError
from deployment_toolkit.gpu import gpu_names, require_gpu
from deployment_toolkit.params import OneLineParser, add_dataclass
from deployment_toolkit.process import last_lines
from navigator.options import ContainerOptions

logger = logging.getLogger("convert")

ROOT = Path(navigator.__file__).resolve().parent.parent
FRAMEWORK_IMAGE = "nvcr.io/nvidia/tensorflow:{}-tf2-py3"
TRITON_IMAGE = "nvcr.io/nvidia/tritonserver:{}-py3"
DOCKERFILE = ROOT / "Dockerfile"
_CONVERTER = "wide-deep-converter"
_INTERRUPT_GRACE_S = 15.0
_NEEDED = {
    Format.TF_SAVEDMODEL: ("tensorflow",),
    Format.TF_TRT: ("tensorflow",),
    Format.ONNX: ("onnx", "onnxruntime"),
    Format.TRT: ("onnx",),
    Format.OPENVINO: ("openvino",),
}
_PROBE = """
import importlib.util, sys
import navigator.convert
missing = [name for name in sys.argv[1:] if importlib.util.find_spec(name) is None]
sys.exit(f"without {', '.join(missing)}" if missing else 0)
"""
# Folders of the image that folders of this host must not hide.
_SYSTEM_NAMES = "bin dev etc home lib lib64 opt proc root run sbin sys tmp usr var"
_SYSTEM = {Path("/"), *(Path("/", name) for name in _SYSTEM_NAMES.split())}


@dataclass(frozen=True)
class ContainerJob:
    """A conversion to be done in a container. ``argv`` is what follows ``convert`` on the command line;
    ``written`` are folders that it changes, ``values`` all its options' values, some of which are paths."""

    argv: Sequence[str]
    source: Format
    targets: Sequence[Format]
    written: Sequence[Path]
    values: Sequence[Any]

    def run(self, options: ContainerOptions, *, anew: bool) -> int:
        """Runs it to its end, what it prints on stderr; returns its exit code. ``anew`` builds its image again.

        Raises UsageError if no image is named, DeviceError for a GPU that is not there, ContainerError without an
        engine, without the image, or if the image can't run it and can't be made to.
        """
        base, gpus = base_image(options, self.targets), find_gpus(options.gpus)
        for folder in self.written:
            folder.mkdir(parents=True, exist_ok=True)
        with ContainerEngine.connect() as engine:
            spec = self.spec(self._find_image(engine, base, anew), gpus)
            logger.info("in a container of %s: %s", spec.image, shlex.join(spec.command))
            with engine.container(spec, _stderr()) as container:
                try:
                    return container.wait() or 0
                except KeyboardInterrupt:
                    container.stop("SIGINT", _INTERRUPT_GRACE_S)
                    raise

    def spec(self, image: str, gpus: Sequence[int]) -> ContainerSpec:
        """The container: this project and what the options name read-only, what is written, as the caller, without a
        network."""
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

    def _find_image(self, engine: ContainerEngine, base: str, anew: bool) -> str:
        """``base`` if it can do the job, else one that is built on it with this project's Dockerfile, once."""
        engine.require_image(base)
        lacks = self._what_it_lacks(engine, base)
        if lacks is None:
            return base
        name = f"{_CONVERTER}:{re.sub('[^a-zA-Z0-9_.-]+', '-', base)[-128:].lstrip('.-')}"
        if anew or not engine.has_image(name):
            logger.info("%s can't convert (%s): building on it, the first time some minutes and 3 GB", base, lacks)
            try:
                engine.build_image(DOCKERFILE, name, {"FROM_IMAGE_NAME": base})
            except ContainerError as error:
                raise ContainerError(
                    f"image {base} can't convert ({lacks}) and the requirements can't be installed on it: {error}; "
                    "give with --framework-docker-image one that scripts/docker/build.sh made"
                ) from error
        return name

    def _what_it_lacks(self, engine: ContainerEngine, image: str) -> str | None:
        """Why an image can't do the job, None if it can."""
        needed = {name for item in (self.source, *self.targets) for name in _NEEDED.get(item, ())}
        if self.source is Format.TF_SAVEDMODEL and needed - {"tensorflow"}:
            needed.add("tf2onnx")
        printed: list[bytes] = []
        spec = ContainerSpec(
            image=image,
            command=("python3", "-c", _PROBE, *sorted(needed)),
            user=f"{os.getuid()}:{os.getgid()}",
            read_only=(ROOT,),
            environment={"PYTHONPATH": str(ROOT)},
        )
        try:
            with engine.container(spec, printed.append) as container:
                code = container.wait()
        except ContainerError as error:
            return str(error)
        return last_lines(b"".join(printed).decode(errors="replace"), 3) if code else None


def inner_arguments(argv: Sequence[str]) -> list[str]:
    """A command line of ``convert`` without what says where it runs."""
    parser = OneLineParser(add_help=False, allow_abbrev=False)
    add_dataclass(parser, ContainerOptions)
    parser.add_argument("--launch-mode")
    parser.add_argument("--override-conversion-container", action="store_true")
    return parser.parse_known_args(argv)[1]


def base_image(options: ContainerOptions, targets: Iterable[Format]) -> str:
    """The image that is named or the release's: for TensorRT plans the server's, since a plan is loaded only by the
    version of TensorRT that built it, else the framework's. Raises UsageError if none is named."""
    plans = Format.TRT in targets
    named = (options.triton_docker_image if plans else None) or options.framework_docker_image
    if named:
        return named
    if options.container_version:
        return (TRITON_IMAGE if plans else FRAMEWORK_IMAGE).format(options.container_version)
    raise UsageError(
        "--launch-mode docker needs an image: give --framework-docker-image (one of scripts/docker/build.sh, or "
        f"NVIDIA's){', --triton-docker-image' if plans else ''} or --container-version"
    )


def find_gpus(wanted: Sequence[str]) -> list[int]:
    """Indices by ``--gpus``: all that there are, none included, or those given. Raises UsageError for what is no index,
    DeviceError for a GPU that this machine doesn't have."""
    if list(wanted) == ["all"]:
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
    """The folders around the files, folders and file patterns that are among options' values: what lies beside data or
    a model may belong to it."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from read_folders(value)
        elif isinstance(value, str | Path) and value != "":
            parts = Path(value).parts
            pattern = next((index for index, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts))
            path = _absolute(Path(*parts[:pattern]))
            if path.exists() and path != Path.cwd():
                yield path if path.parent in _SYSTEM else path.parent


def _absolute(path: Path) -> Path:
    """Without ``..``; links stay, so that the path is the same inside."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _stderr() -> Callable[[bytes], None]:
    """Passes on what a container prints, characters that come in two parts included."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def write(part: bytes) -> None:
        sys.stderr.write(decoder.decode(part))
        sys.stderr.flush()

    return write
