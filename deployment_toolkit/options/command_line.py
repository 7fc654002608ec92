"""Command line of a script: its own options, and the options of the modules that it names."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from deployment_toolkit.contracts.calculators import require_calculator
from deployment_toolkit.contracts.dataloaders import PluginStream
from deployment_toolkit.core import DataloaderModule, MetricsModule, ModelModule
from deployment_toolkit.options.params import add_dataclass, from_args, keywords_for, make_parser
from deployment_toolkit.options.plugins import Plugin, call_plugin, parse_with_plugins

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

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

    def make(self, cls: Callable[..., T]) -> T:
        """An object of the class, made with its options from the command line."""
        function = cls.__init__ if inspect.isclass(cls) else cls
        return cls(**keywords_for(function, self.args))


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
