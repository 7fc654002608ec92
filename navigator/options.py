"""Options of both commands: the model, its signature, the workspace, containers, TensorRT's memory."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.containers.images import FRAMEWORK_IMAGE, TRITON_IMAGE
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError, UsageError, require_options_at_least
from deployment_toolkit.library.model_files import format_of, require_format
from deployment_toolkit.library.tensorrt.api import DEFAULT_WORKSPACE_BYTES
from deployment_toolkit.options.params import add_dataclass, option, options_of
from navigator.values import GivenTensor, parse_tensor, parse_version

logger = logging.getLogger("model-navigator")

FORMATS = (Format.TORCHSCRIPT, Format.TF_SAVEDMODEL, Format.TF_TRT, Format.ONNX, Format.TRT, Format.OPENVINO)


@dataclass(frozen=True)
class ModelOptions:
    """Options that name the model."""

    model_name: str = option("name of the model", aliases=["-n"])
    model_path: Path = option("file or folder of the model", aliases=["-p"])
    model_format: Format | None = option(
        "format of the model; from the path's suffix or the folder's content if left out",
        None,
        choices=FORMATS,
        metavar="{" + ",".join(FORMATS) + "}",
    )
    model_version: int = option("version of the model", 1, type=parse_version)
    inputs: list[GivenTensor] = option(
        "inputs, if the model has no signature",
        [],
        type=parse_tensor,
        nargs="+",
        unique=True,
        metavar="[NEW=]NAME:SHAPE:DTYPE",
    )
    outputs: list[GivenTensor] = option(
        "outputs, if the model has no signature",
        [],
        type=parse_tensor,
        nargs="+",
        unique=True,
        metavar="[NEW=]NAME:SHAPE:DTYPE",
    )

    def __post_init__(self) -> None:
        for flag, tensors in (("--inputs", self.inputs), ("--outputs", self.outputs)):
            for names in ([tensor.name for tensor in tensors], [tensor.spec.name for tensor in tensors]):
                twice = next((name for name in names if names.count(name) > 1), None)
                if twice is not None:
                    raise UsageError(f"{flag} names {twice} twice")

    def find_format(self) -> Format:
        """Format of the model: the given one, else by its suffix, else by the files in its folder.

        Raises ModelError if there is nothing at the path or it can't be a model of that format, UsageError if the
        format is unknown.
        """
        if not self.model_path.exists():
            raise ModelError(f"there is no model at {self.model_path}: export or convert it first, or fix --model-path")
        found = self.model_format or format_of(self.model_path)
        if found is None:
            raise UsageError(f"the format of {self.model_path} can't be told from its name: give --model-format")
        require_format(self.model_path, found)
        return found


@dataclass(frozen=True)
class WorkspaceOptions:
    """Options of the workspace: results and logs."""

    workspace_path: Path = option("folder for results and logs", Path("navigator_workspace"))
    override_workspace: bool = option("remove the command's earlier results first, reuse nothing", False)


@dataclass(frozen=True)
class ContainerOptions:
    """Options of containers: NVIDIA's release or other images, and the GPUs that containers see."""

    container_version: str | None = option("release of NVIDIA's containers, as 22.04", None)
    framework_docker_image: str | None = option("image with the framework, instead of the release's", None)
    triton_docker_image: str | None = option("image with Triton, instead of the release's", None)
    gpus: list[str] = option("GPUs that containers see: all, or indices", ["all"], nargs="+", unique=True)

    @property
    def framework_image(self) -> str | None:
        """Image with the framework, None if none is named."""
        return self.framework_docker_image or self._of_release(FRAMEWORK_IMAGE)

    @property
    def server_image(self) -> str | None:
        """Image with Triton, None if none is named."""
        return self.triton_docker_image or self._of_release(TRITON_IMAGE)

    def _of_release(self, image: str) -> str | None:
        return image.format(self.container_version) if self.container_version else None


@dataclass(frozen=True)
class TensorRTOptions:
    """Options of TensorRT's limits."""

    tensorrt_max_workspace_size: int = option(
        "memory that TensorRT may use, in bytes", DEFAULT_WORKSPACE_BYTES, aliases=["--max-workspace-size"]
    )

    def __post_init__(self) -> None:
        require_options_at_least(self, ("tensorrt_max_workspace_size",), 1)


_GROUPS = (ModelOptions, WorkspaceOptions, ContainerOptions, TensorRTOptions)


def add_common_options(parser: argparse.ArgumentParser, notes: Mapping[str, str]) -> None:
    """Adds the options of this module; ``notes`` has, by option, its meaning for the command."""
    for group in _GROUPS:
        add_dataclass(parser, group)
    for action in options_of(parser):
        if action.dest in notes:
            action.help = f"{action.help}; {notes[action.dest]}"


def given(options: object, *names: str) -> list[str]:
    """Flags of the named options whose value is not the default."""
    defaults = {
        item.name: item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
        for item in dataclasses.fields(options)  # type: ignore[arg-type]
    }
    wanted = names or tuple(defaults)
    return [f"--{name.replace('_', '-')}" for name in wanted if getattr(options, name) != defaults[name]]


def tell_unused(flags: list[str], reason: str) -> None:
    """Logs one line for options that are given and have no effect."""
    if flags:
        logger.info("%s: no effect here, %s", ", ".join(flags), reason)
