"""Command line options made from dataclasses and from functions' keyword arguments, and the frame of every entry
point."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import inspect
import logging
import os
import signal
import sys
import threading
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from deployment_toolkit.endings.interrupts import EXIT_CODE, answer_interrupts, ignore_interrupts
from deployment_toolkit.endings.lost_output import lost_stdout, settle_outputs
from deployment_toolkit.errors import DeploymentError, UsageError, host_problem
from deployment_toolkit.options.argument_types import argparse_type
from deployment_toolkit.options.switch import Switch
from deployment_toolkit.redaction import redacted
from deployment_toolkit.tensorflow_import import prepare_tensorflow

T = TypeVar("T")
_MOMENT_S = 0.05
_GARBAGE_THRESHOLD = 50_000  # objects
_NAMED_PARAMETERS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


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
    """Adds an option per parameter of a plug-in's function or class; options that the parser already has are shared. A
    parameter without annotation has its default's type, or str."""
    hints = typing.get_type_hints(function.__init__ if inspect.isclass(function) else function)
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in _NAMED_PARAMETERS and not _has(parser, name) and parser.get_default(name) is None:
            default = dataclasses.MISSING if parameter.default is inspect.Parameter.empty else parameter.default
            hint = hints.get(name, str if default in (dataclasses.MISSING, None) else type(default))
            action = {"action": Switch} if hint is bool else {}
            help = f"{name.replace('_', ' ')} of the plug-in"
            _add(parser, name, hint, default, {"help": help, **action})


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


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser that raises UsageError: one line, exit code 1."""

    def error(self, message: str) -> typing.NoReturn:
        raise UsageError(f"{self.prog}: {message} (see --help)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Says the same on every Python: from 3.12 on, argparse shows choices without quotes."""
        if action.choices is not None and value not in action.choices:
            choices = ", ".join(map(repr, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice: {str(value)!r} (choose from {choices})")


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
    fix or that the host causes (a full disk), or 130 after Ctrl-C. SIGTERM, a closed terminal and an output whose
    reader has ended (``| head``) are handled like Ctrl-C, so that nothing is left behind. A bug shows its
    traceback."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in arguments or "--verbose" in arguments
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, stream=sys.stderr)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s %(message)s", "%H:%M:%S"))
    for noisy in ("matplotlib", "h5py", "numba", "fsspec", "asyncio", "absl", "PIL", "docker", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # its errors are raised too
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its warnings are about its own deprecations
    answer_interrupts()
    prepare_tensorflow()
    sys.unraisablehook = _keep_interrupt
    sys.excepthook = _show_bug
    # The import of a framework makes a million objects that stay; searching them for garbage takes a fifth of its time.
    gc.set_threshold(_GARBAGE_THRESHOLD)
    try:
        code = main(arguments)
    except DeploymentError as error:
        _tell(f"error: {error}")
        code = 1
    except KeyboardInterrupt:
        _tell("interrupted")
        code = EXIT_CODE
    except Exception as error:
        problem = host_problem(error)
        if lost_stdout(error):
            code = EXIT_CODE
        elif problem is None:
            raise
        else:
            file = getattr(error, "filename", None)
            _tell(f"error: {error} ({problem})" if file is None else f"error: {file} can't be used: {problem}")
            code = 1
    ignore_interrupts()
    settle_outputs()
    gc.freeze()  # the interpreter searches for garbage once more at its end, which takes as long
    sys.exit(code or 0)


def _tell(text: str) -> None:
    """Last line of a program, also if nobody reads it."""
    with contextlib.suppress(OSError):
        print(redacted(" ".join(text.split())), file=sys.stderr)


class _Formatter(logging.Formatter):
    """Leaves the secrets of URLs out of every line."""

    def format(self, record: logging.LogRecord) -> str:
        return redacted(super().format(record))


def _show_bug(kind: type[BaseException], error: BaseException, frames: Any) -> None:
    """Python's traceback, without the secrets of URLs."""
    print(redacted("".join(traceback.format_exception(kind, error, frames))), end="", file=sys.stderr)


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
