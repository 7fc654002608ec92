"""Defaults of options from the YAML file of ``--config-path``, also for the plug-ins that it names."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.located_yaml import Located, load_yaml, nearest
from deployment_toolkit.options.params import OneLineParser, options_of
from deployment_toolkit.options.plugins import Plugin, add_plugins

_TENSOR_KEYS = {"name", "shape", "dtype"}


def parse_options(
    parser: argparse.ArgumentParser, argv: Sequence[str], plugins: Sequence[Plugin]
) -> argparse.Namespace:
    """Parses a command line; the YAML file of ``--config-path`` may set defaults, and the command line wins. Raises
    UsageError or DataError, with file, line and key, for an unknown option or a wrong value."""
    parser.add_argument("--config-path", type=Path, help="YAML file with defaults of options, the plug-in's too")
    first = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config-path", type=Path)
    path = first.parse_known_args(argv)[0].config_path
    entries = {} if path is None else _read(path)
    named = [f"--{plugin.name}={entries[plugin.name].plain}" for plugin in plugins if plugin.name in entries]
    add_plugins(parser, [*named, *argv], plugins)
    _set_defaults(parser, entries)
    args = parser.parse_args(argv)
    if args.verbose:
        logging.getLogger().setLevel(logging.DEBUG)  # the file may set verbose
    return args


def _read(path: Path) -> dict[str, Located]:
    found = load_yaml(path, empty_keys=True)
    if found.value is not None and not isinstance(found.value, dict):
        raise UsageError(f"configuration {path} must map options to values, as in model_name: WidenDeep")
    return {key.replace("-", "_"): entry for key, entry in (found.value or {}).items()}


def _set_defaults(parser: argparse.ArgumentParser, entries: Mapping[str, Located]) -> None:
    actions = {
        flag.removeprefix("--").replace("-", "_"): action
        for action in options_of(parser)
        if action.dest not in ("help", "config_path")
        for flag in action.option_strings
    }
    for key, entry in entries.items():
        if key not in actions:
            raise UsageError(f"{entry.where}: unknown key {key}{nearest(key, actions, 'see --help for the options')}")
        action = actions[key]
        parser.set_defaults(**{action.dest: _converted(parser, action, entry.plain, f"{entry.where}: {key}")})
        action.required = False


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, value: Any, where: str) -> Any:
    """Converts a YAML value as if its text were on the command line."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {value} is neither true nor false")
        return value
    texts = _texts(value)
    if action.nargs is None and len(texts) != 1:
        raise UsageError(f"{where}: one value is wanted, not {value}")
    try:
        return parser._get_values(action, texts)
    except argparse.ArgumentError as error:
        raise UsageError(f"{where}: {error.message}") from error


def _texts(value: Any) -> list[str]:
    """Converts ``{a: [1, 2]}`` to a=1,2; the key "" means all names that are not given; a tensor is a separate
    mapping."""
    if isinstance(value, dict):
        return [f"{key}={_text(item)}" if key else _text(item) for key, item in value.items()]
    return [_text(item) for item in value] if isinstance(value, list) else [_text(value)]


def _text(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == _TENSOR_KEYS:
        return f"{value['name']}:{_text(value['shape'])}:{value['dtype']}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
