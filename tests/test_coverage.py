"""Commands have the interface of the original (original_interface.yaml), and docs/coverage.md lists it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS
from runner.config.run import RunConfig
from tests.interface_page import COMMANDS, CONFIGURATION, ORIGINAL, PAGE, kept_default, options_of, page, parser_of


@pytest.mark.parametrize("command", ORIGINAL["commands"])
def test_command_has_the_options_of_the_original(command: str) -> None:
    actions = {flag: action for action in options_of(command) for flag in action.option_strings}
    assert set(ORIGINAL["commands"][command]) <= actions.keys()
    for flag, values in ORIGINAL["choices"].get(command, {}).items():
        assert set(values) <= {str(choice) for choice in actions[flag].choices or []}, flag
    for flag, default in ORIGINAL["defaults"].get(command, {}).items():
        kept = kept_default(command, flag)
        assert _plain(actions[flag].default) == (default if kept is None else kept["ours"]), flag
        assert kept is None or kept["ours"] != default, f"{flag}: it is the original's"


def test_configuration_has_the_defaults_of_the_original() -> None:
    own = {item.name: item.default for item in dataclasses.fields(RunConfig)}
    for name, default in ORIGINAL["config_defaults"].items():
        kept = kept_default(CONFIGURATION, name)
        assert _plain(own[name]) == (default if kept is None else kept["ours"]), name


def _plain(default: Any) -> Any:
    if default is None or isinstance(default, bool):
        return default
    if isinstance(default, list):
        return [_plain(item) for item in default]
    return default if isinstance(default, int | float | str) and type(default) in (int, float, str) else str(default)


def test_coverage_page_is_generated_from_the_commands() -> None:
    assert PAGE.read_text() == page(), "python -m tests.interface_page writes it anew"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(command: str) -> None:
    text = parser_of(command).format_help()
    for action in options_of(command):
        assert all(name in text for name in action.option_strings), action


def test_formats_include_those_of_the_original() -> None:
    assert set(ORIGINAL["formats"]) <= {str(item) for item in Format}


def test_performance_csv_starts_with_the_columns_of_the_original() -> None:
    own = [column.name for column in PERFORMANCE_COLUMNS]
    assert own[: len(ORIGINAL["performance_columns"])] == ORIGINAL["performance_columns"]


def test_scripts_of_the_original_exist() -> None:
    for script in ORIGINAL["scripts"]:
        assert (ROOT / script).is_file(), script
