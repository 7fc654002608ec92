"""Defaults of options from the YAML file of ``--config-path``, also for the plug-ins that it names."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.argument_types import Values
from deployment_toolkit.options.located_yaml import Located, load_yaml, nearest
from deployment_toolkit.options.params import OneLineParser, options_of
from deployment_toolkit.options.plugins import Plugin, add_plugins

_TENSOR_KEYS = {"name", "shape", "dtype"}


def parse_options(
    parser: argparse.ArgumentParser, argv: Sequence[str], plugins: Sequence[Plugin]
) -> argparse.Namespace:
    """Parses a command line; the YAML file of ``--config-path`` may set defaults, and the command line wins. A key with
    nothing behind it (``null``) sets none. Raises UsageError or DataError, with file, line and key, for an unknown
    option or a wrong value."""
    parser.add_argument("--config-path", type=Path, help="YAML file with defaults of options, the plug-in's too")
    first = OneLineParser(prog=parser.prog, add_help=False, allow_abbrev=False)
    first.add_argument("--config-path", type=Path)
    path = first.parse_known_args(argv)[0].config_path
    entries = {} if path is None else _read(path)
    given = {key: entry for key, entry in entries.items() if entry.value is not None}
    named = [f"--{plugin.name}={given[plugin.name].plain}" for plugin in plugins if plugin.name in given]
    add_plugins(parser, [*named, *argv], plugins)
    _set_defaults(parser, entries)
    args = parser.parse_args(argv)
    if args.verbose:
        logging.getLogger().setLevel(logging.DEBUG)  # the file may set verbose
    return args


def _read(path: Path) -> dict[str, Located]:
    found = load_yaml(path, empty_keys=True)
    if found.value is not None and not isinstance(found.value, dict):
        raise UsageError(f"{found.where}: the file must map options to values, as in model_name: WidenDeep")
    entries: dict[str, Located] = {}
    for key, entry in (found.value or {}).items():
        name = key.replace("-", "_")
        if name in entries:
            raise UsageError(f"{entry.where}: {key} is there twice, first in line {entries[name].line}: leave one out")
        entries[name] = entry
    return entries


def _set_defaults(parser: argparse.ArgumentParser, entries: Mapping[str, Located]) -> None:
    actions = {
        flag.removeprefix("--").replace("-", "_"): action
        for action in options_of(parser)
        if action.dest not in ("help", "config_path")
        for flag in action.option_strings
    }
    set_by: dict[str, str] = {}
    for key, entry in entries.items():
        if key not in actions:
            raise UsageError(f"{entry.where}: unknown key {key}{nearest(key, actions, 'see --help for the options')}")
        action = actions[key]
        other = set_by.setdefault(action.dest, key)
        if other != key:
            raise UsageError(f"{entry.where}: {key} and {other} are names of one option: leave one out")
        if entry.value is not None:
            parser.set_defaults(**{action.dest: _converted(parser, action, entry, f"{entry.where}: {key}")})
            action.required = False


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, entry: Located, where: str) -> Any:
    """Converts a YAML value as if its text were on the command line."""
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        if not isinstance(entry.value, bool):
            raise UsageError(f"{where}: {entry.plain} is neither true nor false")
        return entry.value
    texts = _texts(entry)
    if action.nargs is None and (len(texts) != 1 or isinstance(entry.value, dict)):
        raise UsageError(f"{where}: one value is wanted, not {entry.plain}")
    if action.nargs == "+" and not texts:
        raise UsageError(f"{where}: the list is empty: write a value into it, or leave it out")
    try:
        values = parser._get_values(action, texts)
    except argparse.ArgumentError as error:
        raise UsageError(f"{where}: {error.message}") from error
    return action.once(values) if isinstance(action, Values) else values


def _texts(entry: Located) -> list[str]:
    """Converts ``{a: [1, 2]}`` to a=1,2; the key "" means all names that are not given; a tensor is a separate
    mapping."""
    if isinstance(entry.value, dict):
        return [f"{key}={_text(item)}" if key else _text(item) for key, item in entry.value.items()]
    return [_text(item) for item in entry.value] if isinstance(entry.value, list) else [_text(entry)]


def _text(entry: Located) -> str:
    value = entry.value
    if value is None:
        raise UsageError(f"{entry.where}: there is nothing: write a value, or leave it out")
    if isinstance(value, dict) and value.keys() == _TENSOR_KEYS:
        return f"{_text(value['name'])}:{_text(value['shape'])}:{_text(value['dtype'])}"
    if isinstance(value, dict):
        raise UsageError(f"{entry.where}: a value is wanted, not keys and values")
    return ",".join(map(_text, value)) if isinstance(value, list) else entry.text_as_written
