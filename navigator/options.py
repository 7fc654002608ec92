"""What both commands ask: the model, its signature, the workspace, containers; and defaults from a YAML file."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deployment_toolkit.core import Format, TensorSpec
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.params import OneLineParser, Plugin, add_dataclass, option, parse_with_plugins

FORMATS = (Format.TORCHSCRIPT, Format.TF_SAVEDMODEL, Format.TF_TRT, Format.ONNX, Format.TRT)
_SUFFIXES = {
    ".savedmodel": Format.TF_SAVEDMODEL,
    ".onnx": Format.ONNX,
    ".plan": Format.TRT,
    ".pt": Format.TORCHSCRIPT,
}
_FOLDERS = (Format.TF_SAVEDMODEL, Format.TF_TRT)


def parse_tensor(text: str) -> TensorSpec:
    """``[new=]name:shape:dtype``; the shape starts with the batch dimension, -1; ``new`` is the name in the result."""
    name, _, rest = text.rpartition("=")
    parts = rest.split(":")
    if len(parts) < 3 or not re.fullmatch(r"-1(,-?\d+)*", parts[-2]):
        raise argparse.ArgumentTypeError(f"{text} is not [new=]name:shape:dtype, as in ad_id:-1,1:int32")
    try:
        dtype = np.dtype(parts[-1]).name
    except TypeError:
        raise argparse.ArgumentTypeError(f"{text}: {parts[-1]} is no dtype; use one of numpy's, as int32") from None
    shape = tuple(int(size) for size in parts[-2].split(",")[1:])
    return TensorSpec(name or ":".join(parts[:-2]), dtype, shape)


def key_value(convert_key: Callable[[str], Any] = str, convert_value: Callable[[str], Any] = str) -> Callable[..., Any]:
    """An option type for ``key=value``, as a pair."""

    def parse(text: str) -> tuple[Any, Any]:
        key, separator, value = text.partition("=")
        try:
            if key and separator:
                return convert_key(key), convert_value(value)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from error
        raise argparse.ArgumentTypeError(f"{text} is not key=value")

    return parse


@dataclass(frozen=True)
class ModelOptions:
    """Which model."""

    model_name: str = option("name of the model", aliases=["-n"])
    model_path: Path = option("file or folder of the model", aliases=["-p"])
    model_format: Format | None = option(
        "format of the model; from the path's suffix if left out",
        None,
        choices=FORMATS,
        metavar="{" + ",".join(FORMATS) + "}",
    )
    model_version: int = option("version of the model", 1)
    inputs: list[TensorSpec] = option(
        "inputs, where the model does not tell them", [], type=parse_tensor, nargs="+", metavar="[NEW=]NAME:SHAPE:DTYPE"
    )
    outputs: list[TensorSpec] = option(
        "outputs, where the model does not tell them",
        [],
        type=parse_tensor,
        nargs="+",
        metavar="[NEW=]NAME:SHAPE:DTYPE",
    )

    def find_format(self) -> Format:
        """The model's format: as given, or by suffix, or by what is in the folder.

        Raises ModelError if there is nothing at the path or it can't be a model of that format, UsageError if the
        format can't be told.
        """
        path = self.model_path
        if not path.exists():
            raise ModelError(f"there is no model at {path}: export or convert it first, or mend --model-path")
        if self.model_format is not None:
            found = self.model_format
        elif path.suffix in _SUFFIXES:
            found = _SUFFIXES[path.suffix]
        elif (path / "saved_model.pb").is_file():
            found = Format.TF_SAVEDMODEL
        else:
            raise UsageError(f"the format of {path} can't be told from its name: give --model-format")
        if found in _FOLDERS and not (path / "saved_model.pb").is_file():
            raise ModelError(f"{path} is no {found}: a SavedModel is a folder with a saved_model.pb")
        if found not in _FOLDERS and not path.is_file():
            raise ModelError(f"{path} is no {found}: a model of this format is a file")
        return found


@dataclass(frozen=True)
class WorkspaceOptions:
    """Where a command keeps its results and logs."""

    workspace_path: Path = option("folder for results and logs", Path("navigator_workspace"))
    override_workspace: bool = option("remove the command's earlier results first", False)


@dataclass(frozen=True)
class ContainerOptions:
    """Containers of ``convert --launch-mode docker``; ``triton-config-model`` takes the same options and needs none."""

    container_version: str | None = option("release of NVIDIA's containers, as 22.04", None)
    framework_docker_image: str | None = option("image with the framework, instead of the release's", None)
    triton_docker_image: str | None = option("image with Triton, instead of the release's", None)
    gpus: list[str] = option("GPUs that containers see: all, or indices", ["all"])


@dataclass(frozen=True)
class TensorRTOptions:
    """Limits of a TensorRT builder."""

    tensorrt_max_workspace_size: int = option(
        "memory a TensorRT builder may use, in bytes", 4 * 1024**3, aliases=["--max-workspace-size"]
    )


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this module."""
    parser.add_argument("--config-path", type=Path, help="YAML file with defaults of options")
    for group in (ModelOptions, WorkspaceOptions, ContainerOptions, TensorRTOptions):
        add_dataclass(parser, group)


def parse_options(
    parser: argparse.ArgumentParser, argv: Sequence[str], plugins: Sequence[Plugin]
) -> argparse.Namespace:
    """Parses a command line whose defaults ``--config-path`` may set; what is on the command line wins."""
    first = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config-path", type=Path)
    path = first.parse_known_args(argv)[0].config_path
    if path is not None:
        _set_defaults(parser, path)
    return parse_with_plugins(parser, argv, plugins)[0]


def _set_defaults(parser: argparse.ArgumentParser, path: Path) -> None:
    try:
        plain = yaml.safe_load(path.read_text()) or {}
    except OSError as error:
        raise UsageError(f"configuration {path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"configuration {path} is not YAML: {error}") from error
    if not isinstance(plain, dict):
        raise UsageError(f"configuration {path} must map options to values, as in model_name: WidenDeep")
    actions = {action.dest: action for action in parser._actions if action.dest not in ("help", "config_path")}
    for key, value in plain.items():
        name = str(key).replace("-", "_")
        if name not in actions:
            near = difflib.get_close_matches(name, actions, 1)
            hint = f"did you mean {near[0]}?" if near else "see --help for the options"
            raise UsageError(f"configuration {path}: unknown key {key}; {hint}")
        parser.set_defaults(**{name: _converted(parser, actions[name], value, f"configuration {path}: {key}")})
        actions[name].required = False


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, where: str) -> Any:
    """A YAML value as if its text stood on the command line."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {value} is neither true nor false")
        return value
    if isinstance(value, dict):
        texts = [f"{key}={item}" for key, item in value.items()]
    else:
        texts = [str(item) for item in value] if isinstance(value, list) else [str(value)]
    if action.nargs is None and len(texts) != 1:
        raise UsageError(f"{where}: one value is wanted, not {value}")
    try:
        return parser._get_values(action, texts)
    except argparse.ArgumentError as error:
        raise UsageError(f"{where}: {error.message}") from error
