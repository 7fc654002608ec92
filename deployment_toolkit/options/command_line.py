"""Command line of a script: its own options, and the options of the modules that it names."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from deployment_toolkit.contracts.calculators import require_calculator
from deployment_toolkit.contracts.dataloaders import PluginStream
from deployment_toolkit.core import DataloaderModule, Format, MetricsModule, ModelModule
from deployment_toolkit.options.params import (
    OneLineParser,
    add_dataclass,
    from_args,
    keywords_for,
    make_parser,
    options_of,
)
from deployment_toolkit.options.plugins import Plugin, add_plugins, call_plugin, parse_with_plugins

T = TypeVar("T")

MODEL = Plugin("input-path", ModelModule, "get_model")
DATALOADER = Plugin("dataloader", DataloaderModule, "get_dataloader_fn", adapted=PluginStream)
METRICS = Plugin("metrics", MetricsModule, "MetricsCalculator", require=require_calculator)


@dataclass(frozen=True)
class CommandLine:
    """Values of a command line: option groups by class, and the plug-ins that it names."""

    parser: argparse.ArgumentParser
    args: argparse.Namespace
    modules: dict[str, Any]

    def get(self, group: type[T]) -> T:
        """The values of a group of options. Raises UsageError for values that contradict each other."""
        return from_args(group, self.args)

    def names(self, plugin: Plugin) -> bool:
        """True if the command line names a module for this plug-in."""
        return plugin.name in self.modules

    def call(self, plugin: Plugin) -> Any:
        """Return value of the plug-in's function, called with the options that it takes."""
        return call_plugin(plugin, self.modules[plugin.name], self.args)

    def with_values(self, **values: Any) -> CommandLine:
        """The same command with other values of some options."""
        return replace(self, args=argparse.Namespace(**{**vars(self.args), **values}))

    @property
    def from_anywhere(self) -> CommandLine:
        """The same command for any current folder: paths, also the pattern of data files, are absolute."""
        values = {name: _absolute(value) for name, value in vars(self.args).items()}
        pattern = values.get("data_pattern")
        return self.with_values(**values | ({"data_pattern": str(Path(pattern).absolute())} if pattern else {}))

    @property
    def portable(self) -> dict[str, Any]:
        """All values by option, for ``from_values`` in another process. Members of an Enum are texts: a plug-in's own
        class can't be imported there by name."""
        return {name: _as_text(value) for name, value in vars(self.args).items()}

    @classmethod
    def from_values(cls, values: dict[str, Any], groups: Sequence[type], plugins: Sequence[Plugin]) -> CommandLine:
        """The command line of another process's ``portable`` values, with these groups of options and the modules of
        these plug-ins. Raises ModelError for a module that can't be used here."""
        parser = make_parser("")
        for group in groups:
            add_dataclass(parser, group)
        argv = [part for plugin in plugins for part in (f"--{plugin.name}", str(values[plugin.name.replace("-", "_")]))]
        modules = add_plugins(parser, argv, plugins)
        types = {action.dest: action.type for action in options_of(parser)}
        return cls(
            parser,
            argparse.Namespace(**{name: _of_text(value, types.get(name)) for name, value in values.items()}),
            modules,
        )

    def make(self, cls: Callable[..., T]) -> T:
        """An object of the class, made with its options from the command line."""
        function = cls.__init__ if inspect.isclass(cls) else cls
        return cls(**keywords_for(function, self.args))


def model_plugins(argv: Sequence[str]) -> list[Plugin]:
    """The plug-in of ``--input-path`` if a module makes the model; the module may add its own options."""
    first = OneLineParser(add_help=False, allow_abbrev=False)
    first.add_argument("--input-type")
    is_module = (first.parse_known_args(argv)[0].input_type or "").casefold() == Format.TF_KERAS
    return [MODEL] if is_module else []


def read_command_line(
    description: str | None, argv: Sequence[str], groups: Sequence[type], plugins: Sequence[Plugin] = ()
) -> CommandLine:
    """Parses a command line with the options of the groups and of the modules that it names. Raises UsageError for a
    wrong option or value, ModelError for a module that can't be used."""
    parser = make_parser(description or "")
    for group in groups:
        add_dataclass(parser, group)
    args, modules = parse_with_plugins(parser, argv, plugins)
    return CommandLine(parser, args, modules)


@dataclass(frozen=True)
class EnumText:
    """Value of an Enum's member."""

    text: str


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.absolute()
    return [_absolute(item) for item in value] if isinstance(value, list) else value


def _as_text(value: Any) -> Any:
    if isinstance(value, Enum):
        return EnumText(str(value.value))
    return [_as_text(item) for item in value] if isinstance(value, list) else value


def _of_text(value: Any, kind: Any) -> Any:
    if isinstance(value, EnumText):
        return kind(value.text)
    return [_of_text(item, kind) for item in value] if isinstance(value, list) else value
