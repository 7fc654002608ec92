"""Command line options made from dataclasses and from functions' keyword arguments, and the frame of every entry
point."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import importlib.util
import inspect
import logging
import os
import signal
import sys
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from deployment_toolkit.core import ArgparserModule
from deployment_toolkit.errors import DeploymentError, ModelError, UsageError, host_problem
from deployment_toolkit.interrupts import EXIT_CODE, answer_interrupts
from deployment_toolkit.options.argument_types import argparse_type

T = TypeVar("T")
_MOMENT_S = 0.05
_GARBAGE_THRESHOLD = 50_000  # objects


def option(
    help: str, default: Any = dataclasses.MISSING, *, aliases: Sequence[str] = (), **argparse_options: Any
) -> Any:
    """Dataclass field that is also a command line option; without a default the option is required. An option of
    several values takes ``adds_up`` and ``unique``, see ``Values``."""
    metadata = {"help": help, "aliases": tuple(aliases), **argparse_options}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def add_dataclass(parser: argparse.ArgumentParser, cls: type) -> None:
    """Adds an option per field of a dataclass whose fields are made by ``option``; options that the parser already has
    are shared."""
    hints = typing.get_type_hints(cls)
    for item in dataclasses.fields(cls):
        default: Any = item.default
        if item.default_factory is not dataclasses.MISSING:
            default = item.default_factory()
        if not _has(parser, item.name):
            _add(parser, item.name, hints[item.name], default, dict(item.metadata))


def add_function(parser: argparse.ArgumentParser, function: Callable[..., Any]) -> None:
    """Adds an option per keyword-only parameter of a plug-in's function or class; options that the parser already has
    are shared."""
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not _has(parser, name):
            default = dataclasses.MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            _add(parser, name, hints.get(name, str), default, {"help": f"{name.replace('_', ' ')} of the plug-in"})


def from_args(cls: type[T], args: argparse.Namespace) -> T:
    """Makes the dataclass from the values of a parsed command line."""
    return cls(**{item.name: getattr(args, item.name) for item in dataclasses.fields(cls)})  # type: ignore[arg-type]


def keywords_for(function: Callable[..., Any], args: argparse.Namespace) -> dict[str, Any]:
    """Parsed options that a plug-in's function takes; all options if it takes ``**kwargs``."""
    return select_keywords(function, vars(args))


def select_keywords(function: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values that a function takes by name; all values if it takes ``**kwargs``."""
    parameters = inspect.signature(function).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return dict(values)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in values.items() if name in names}


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
        module = sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException as error:
            del sys.modules[name]
            if isinstance(error, ImportError):
                raise ModelError(f"{path} can't be imported: {error}; install what it needs") from error
            raise
    module = sys.modules[name]
    _check_names(module, path, protocol)
    return module


@dataclasses.dataclass(frozen=True)
class Plugin:
    """A module given by path to the option ``name``; the keyword options of its ``function`` join the command line."""

    name: str
    protocol: type[Any]
    function: str


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
                modules[plugin.name].update_argparser(parser)
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


def _check_names(module: ModuleType, path: Path, protocol: type[Any]) -> None:
    wanted = [name for name in vars(protocol) if not name.startswith("_") and callable(vars(protocol)[name])]
    missing = [name for name in wanted if not callable(getattr(module, name, None))]
    if missing:
        raise ModelError(f"{path} does not define {', '.join(missing)}: it can't be used as a {protocol.__name__}")


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError: one line, exit code 1."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{self.prog}: {message} (see --help)")


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The options that were added to a parser or to a group of it, for which argparse has no public name."""
    return parser._actions


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that carry information."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        silent = action.default is None or action.default is False or action.default == []
        return action.help if silent else super()._get_help_string(action)


def make_parser(description: str) -> OneLineParser:
    """Parser with the options that every entry point has."""
    parser = OneLineParser(description=description, allow_abbrev=False, formatter_class=_HelpFormatter)
    parser.add_argument("-v", "--verbose", action="store_true", help="log in detail")
    return parser


def run_entry_point(main: Callable[[list[str]], int | None], argv: Sequence[str] | None = None) -> typing.NoReturn:
    """Runs ``main(argv)`` and exits with 0, the code that it returns, 1 with one line for an error that the user can
    fix or that the host causes (a full disk), or 130 after Ctrl-C. SIGTERM is handled like Ctrl-C, so that nothing is
    left behind. A bug shows its traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in arguments or "--verbose" in arguments
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    for noisy in ("matplotlib", "h5py", "numba", "fsspec", "asyncio", "absl", "PIL", "docker", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # its errors are raised too
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its warnings are about its own deprecations
    answer_interrupts()
    sys.unraisablehook = _keep_interrupt
    # The import of a framework makes a million objects that stay; searching them for garbage takes a fifth of its time.
    gc.set_threshold(_GARBAGE_THRESHOLD)
    try:
        code = main(arguments)
    except DeploymentError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = EXIT_CODE
    except Exception as error:
        problem = host_problem(error)
        if problem is None:
            raise
        file = getattr(error, "filename", None)
        told = f"{error} ({problem})" if file is None else f"{file} can't be used: {problem}"
        print(f"error: {' '.join(told.split())}", file=sys.stderr)
        code = 1
    gc.freeze()  # the interpreter searches for garbage once more at its end, which takes as long
    sys.exit(code or 0)


def _keep_interrupt(unraisable: Any) -> None:
    """Repeats Ctrl-C a moment later if Python dropped it, as in an object's ``__del__``, where no exception gets
    through."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        again = threading.Timer(_MOMENT_S, os.kill, (os.getpid(), signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


def _has(parser: argparse.ArgumentParser, dest: str) -> bool:
    return any(action.dest == dest for action in options_of(parser))


def _add(parser: argparse.ArgumentParser, name: str, hint: Any, default: Any, metadata: dict[str, Any]) -> None:
    flags = [f"--{name.replace('_', '-')}", *metadata.pop("aliases", ())]
    if default is dataclasses.MISSING:
        metadata["required"] = True
    else:
        metadata["default"] = default
    metadata["dest"] = name
    metadata = {**argparse_type(hint, default), **metadata}
    if metadata.get("choices"):
        metadata.setdefault("metavar", "{" + ",".join(map(str, metadata["choices"])) + "}")
    parser.add_argument(*flags, **metadata)
