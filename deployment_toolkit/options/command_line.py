"""Command line of a script: its own options, and the options of the modules that it names."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from deployment_toolkit.contracts.calculators import require_calculator
from deployment_toolkit.contracts.dataloaders import PluginStream
from deployment_toolkit.core import DataloaderModule, Format, MetricsModule, ModelModule
from deployment_toolkit.options.params import OneLineParser, add_dataclass, from_args, keywords_for, make_parser
from deployment_toolkit.options.plugins import Plugin, call_plugin, load_module, parse_with_plugins

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
    def portable(self) -> dict[str, Any]:
        """All values by option, for ``from_values`` in another process; paths, also the pattern of data files, are
        absolute."""
        values = {name: _absolute(value) for name, value in vars(self.args).items()}
        pattern = values.get("data_pattern")
        return values if not isinstance(pattern, str) else {**values, "data_pattern": str(Path(pattern).absolute())}

    @classmethod
    def from_values(cls, values: dict[str, Any], plugins: Sequence[Plugin]) -> CommandLine:
        """The command line of another process's ``portable`` values, with the modules of these plug-ins. Raises
        ModelError for a module that can't be used here."""
        paths = {plugin: values[plugin.name.replace("-", "_")] for plugin in plugins}
        modules = {plugin.name: load_module(path, plugin.protocol) for plugin, path in paths.items()}
        return cls(make_parser(""), argparse.Namespace(**values), modules)

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


def _absolute(value: Any) -> Any:
    if isinstance(value, Path):
        return value.absolute()
    return [_absolute(item) for item in value] if isinstance(value, list) else value
