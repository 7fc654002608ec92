"""The key ``network`` of a run: plug-ins of a network other than Wide & Deep, and the commands that prepare it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

from deployment_toolkit.errors import UsageError

_PLACES = {"prepare_data": ("dataset_dir",), "prepare_checkpoint": ("dataset_dir", "checkpoint_dir")}


@dataclass(frozen=True)
class NetworkConfig:
    """Plug-ins ``model`` (``get_model``), ``dataloader`` (``get_dataloader_fn``) and ``metrics``
    (``MetricsCalculator``), Python files next to the configuration, with further options of each.

    ``prepare_data`` makes a data set that is missing, ``prepare_checkpoint`` a checkpoint. Each is a command: a Python
    file next to the configuration and its arguments, in which ``{dataset_dir}`` and ``{checkpoint_dir}`` are folders of
    the run. Patterns are below the data set's folder.
    """

    model: Path
    dataloader: Path
    metrics: Path
    model_options: dict[str, Any] = field(default_factory=dict)
    dataloader_options: dict[str, Any] = field(default_factory=dict)
    metrics_options: dict[str, Any] = field(default_factory=dict)
    prepare_data: str | None = None
    prepare_checkpoint: str | None = None
    valid_data: str = "valid/*.parquet"
    train_data: str = "train/*.parquet"

    def __post_init__(self) -> None:
        for key, places in _PLACES.items():
            _check_command(key, getattr(self, key), places)

    def located(self, configuration: Path) -> NetworkConfig:
        """The same with absolute paths of its Python files, which are in the folder of the configuration's file.
        Raises UsageError for one that is not there."""
        folder = configuration.parent
        files = {key: (folder / getattr(self, key)).resolve() for key in ("model", "dataloader", "metrics")}
        commands = {}
        for key in _PLACES:
            if getattr(self, key) is not None:
                program, *arguments = shlex.split(getattr(self, key))
                files[key] = (folder / program).resolve()
                commands[key] = shlex.join([_escaped(files[key]), *arguments])
        for key, path in files.items():
            if not path.is_file():
                raise UsageError(f"{configuration}: network: {key}: there is no file {path}")
        plugins = {key: files[key] for key in ("model", "dataloader", "metrics")}
        return dataclasses.replace(self, **plugins, **commands)  # type: ignore[arg-type]


def _escaped(path: Path) -> str:
    """A path in a command, whose own braces name no folder of a run."""
    return str(path).replace("{", "{{").replace("}", "}}")


def filled(command: str, places: Mapping[str, Path]) -> list[str]:
    """The arguments of a command with its ``{folders}`` filled in."""
    return [part.format_map(places) for part in shlex.split(command)]


def option_arguments(options: Mapping[str, Any]) -> list[object]:
    """Options by name as arguments: true is a flag, false leaves it out, a list has several values."""
    arguments: list[object] = []
    for name, value in options.items():
        if value is False or value is None:
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        arguments += [f"--{name.replace('_', '-')}", *values]
    return arguments


def _check_command(key: str, command: str | None, places: tuple[str, ...]) -> None:
    if command is None:
        return
    try:
        parts = shlex.split(command)
        found = {name for part in parts for _, name, _, _ in Formatter().parse(part) if name is not None}
    except ValueError as error:
        raise UsageError(f"{key}: {command!r} can't be read as a command: {error}") from error
    if not parts or not parts[0].endswith(".py"):
        raise UsageError(f"{key}: {command!r} must begin with a Python file, as prepare.py")
    for name in sorted(found - set(places)):
        known = " and ".join(f"{{{place}}}" for place in places)
        raise UsageError(f"{key}: {{{name}}} is no folder of a run, known are {known}")
