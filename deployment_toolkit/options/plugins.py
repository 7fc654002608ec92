"""User modules that a command line names, and their options."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from deployment_toolkit.contracts.original_names import OFFERED, TRAINING_PACKAGES, offer_original_names
from deployment_toolkit.core import ArgparserModule
from deployment_toolkit.errors import DataError, ModelError
from deployment_toolkit.options.params import OneLineParser, add_function, keywords_for, options_of
from deployment_toolkit.tensorflow_import import prepare_tensorflow


@dataclass(frozen=True)
class Plugin:
    """A module given by path to the option ``name``; the options of its ``function`` join the command line.

    ``require(function, where)`` raises ModelError for a function that can't be called, ``adapted(value, where)`` makes
    one form of the values that it may return; ``where`` is the module's path.
    """

    name: str
    protocol: type[Any]
    function: str
    require: Callable[[Any, str], None] | None = None
    adapted: Callable[[Any, str], Any] | None = None


def load_module(path: Path | str, protocol: type[Any]) -> Any:
    """Imports a user's module from its path and checks it against a Protocol.

    Raises ModelError if there is no such file, if a package that it imports is missing, or if it does not define a name
    of the Protocol.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"there is no module at {path}: give the path of a Python file")
    name = f"plugin:{path.resolve()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        if spec is None or spec.loader is None:
            raise ModelError(f"{path} is not a Python module: give the path of a .py file")
        offer_original_names()
        prepare_tensorflow()
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, ImportError):
                raise ModelError(f"{path} can't be imported: {error}; {_remedy(error)}") from error
            raise
    module = sys.modules[name]
    _check_names(module, path, protocol)
    return module


def call_plugin(plugin: Plugin, module: Any, args: argparse.Namespace) -> Any:
    """Return value of a module's function, called with the options that it takes, and adapted. Raises ModelError if the
    function does not fit its contract, and what ``call_function`` raises."""
    function = getattr(module, plugin.function)
    where = str(module.__file__)
    if plugin.require is not None:
        plugin.require(function, where)
    value = call_function(function, where, keywords_for(function, args))
    return value if plugin.adapted is None else plugin.adapted(value, where)


def call_function(function: Callable[..., Any], where: str, keywords: Mapping[str, Any]) -> Any:
    """Calls a function of the module ``where``. Raises ModelError if a package that it imports is missing, DataError
    with the module's own words if its ``assert`` fails."""
    try:
        return function(**keywords)
    except ImportError as error:
        raise ModelError(f"{function.__name__} of {where} can't import: {error}; {_remedy(error)}") from error
    except AssertionError as error:
        if not str(error):
            raise
        raise DataError(f"{function.__name__} of {where}: {error}") from error


def add_plugins(parser: argparse.ArgumentParser, argv: Sequence[str], plugins: Sequence[Plugin]) -> dict[str, Any]:
    """Adds the options of the modules that a command line names; returns the modules by option name."""
    first = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    for plugin in plugins:
        first.add_argument(f"--{plugin.name}", dest=plugin.name)
    paths = vars(first.parse_known_args(argv)[0])
    modules = {
        plugin.name: load_module(paths[plugin.name], plugin.protocol) for plugin in plugins if paths[plugin.name]
    }
    for plugin in plugins:
        if plugin.name in modules:
            if isinstance(modules[plugin.name], ArgparserModule):
                _add_own_options(parser, modules[plugin.name])
            add_function(parser, getattr(modules[plugin.name], plugin.function))
    return modules


def parse_with_plugins(
    parser: argparse.ArgumentParser, argv: Sequence[str], plugins: Sequence[Plugin]
) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Parses a command line with the options of the parser and of the modules that it names.

    Returns the options and the loaded modules by option name. ``--ignore-unknown-parameters`` drops unknown options.
    """
    modules = add_plugins(parser, argv, plugins)
    args, unknown = parser.parse_known_args(argv)
    if unknown and not getattr(args, "ignore_unknown_parameters", False):
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args, modules


def _add_own_options(parser: argparse.ArgumentParser, module: ArgparserModule) -> None:
    """Adds the options of the module's ``update_argparser``; options that the parser already has are shared. Raises
    ModelError for one that would be shared and has another name in the module."""
    own = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False, conflict_handler="resolve")
    module.update_argparser(own)
    known = {flag: action.dest for action in options_of(parser) for flag in action.option_strings}
    for action in options_of(own):
        shared = {flag: known[flag] for flag in action.option_strings if flag in known}
        action.option_strings = [flag for flag in action.option_strings if flag not in known]
        if action.option_strings:
            parser._add_action(action)
        elif action.dest not in shared.values():
            raise ModelError(
                f"update_argparser of {getattr(module, '__file__', module)} adds {', '.join(shared)} as {action.dest}: "
                "this command has an option of that name, so give yours another"
            )
    parser._mutually_exclusive_groups += own._mutually_exclusive_groups
    parser.set_defaults(**own._defaults)


def _remedy(error: ImportError) -> str:
    """What to do if a module of this project's contract or the original's can't import a name."""
    package = (error.name or "").split(".")[0]
    if package in TRAINING_PACKAGES:
        return f"the original's modules import {package} from the folder above theirs: put that folder on PYTHONPATH"
    if package in OFFERED:
        return (
            "of the original's contract, BaseMetricsCalculator of deployment_toolkit.core and eval_input_fn of "
            "tf_dataloader are here; for more put the folder above the original's on PYTHONPATH"
        )
    return "install what it needs"


def _check_names(module: ModuleType, path: Path, protocol: type[Any]) -> None:
    wanted = [name for name in vars(protocol) if not name.startswith("_") and callable(vars(protocol)[name])]
    missing = [name for name in wanted if not callable(getattr(module, name, None))]
    if missing:
        raise ModelError(f"{path} does not define {', '.join(missing)}: it can't be used as a {protocol.__name__}")
