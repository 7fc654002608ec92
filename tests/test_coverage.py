"""docs/coverage.md: every command, option, format, key and file of the original has a test, and the commands have what
the original's users call (original_interface.yaml)."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS

TEXT = (ROOT / "docs" / "coverage.md").read_text()
ORIGINAL = yaml.safe_load((ROOT / "tests" / "original_interface.yaml").read_text())

MODEL = ["--input-path", str(ROOT / "model.py")]
ROWS = ["--dataloader", str(ROOT / "dataloader.py")]
# How each command is asked for its help, with the plug-ins whose options join its own.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "export_model.py": ("export_model", [*MODEL, *ROWS]),
    "run_inference_on_fw.py": ("run_inference_on_fw", [*MODEL, *ROWS, "--input-type", "tf-keras"]),
    "run_inference_on_triton.py": ("run_inference_on_triton", ROWS),
    "calculate_metrics.py": ("calculate_metrics", ["--metrics", str(ROOT / "metrics.py")]),
    "run_performance_on_triton.py": ("run_performance_on_triton", ROWS),
    "model-navigator convert": ("navigator.__main__", ["convert", *ROWS]),
    "model-navigator triton-config-model": ("navigator.__main__", ["triton-config-model"]),
    "python -m runner": ("runner.__main__", []),
    "check_correctness.py": ("check_correctness", ["--metrics", str(ROOT / "metrics.py")]),
    "deploy_ensemble.py": ("deploy_ensemble", []),
    "python -m deployment_toolkit.triton_server": ("deployment_toolkit.triton_server.__main__", []),
    "python -m widedeep.synthetic": ("widedeep.synthetic", []),
    "scripts/preproc.sh": ("widedeep.preprocessing.__main__", []),
    "scripts/train.sh": ("widedeep.training", []),
    "python -m runner.published": ("runner.published", []),
}
# Files whose text a test runs, beside its own and the fixtures above it.
RUNS = {
    "tests/test_readme.py": ["README.md", "docs/step-by-step.md"],
    "tests/test_original_commands.py": ["tests/original_commands.txt"],
    "tests/test_bring_your_own_data.py": ["docs/bring-your-own-data.md"],
    "tests/test_ensemble.py": ["docs/ensemble.md"],
    "tests/test_coverage.py": ["tests/original_interface.yaml"],
    "tests/test_calculate_metrics.py": ["metrics.py"],
    "tests/test_model.py": ["model.py"],
    "tests/runner/config/test_run.py": ["runner/config_CPU.yaml"],
    "tests/runner/test_device_configs.py": ["runner/config_NVIDIA-A30.yaml"],
    "tests/runner/test_published.py": ["reports/published.md"],
}

Row = tuple[list[str], list[str]]  # what is covered, by which tests


def _chapters() -> dict[str, list[Row]]:
    """The tables of coverage.md by heading: a row's names in backticks, and its tests.

    The names of an option stay together.
    """
    chapters: dict[str, list[Row]] = {}
    for part in re.split(r"^#{2,3} ", TEXT, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        rows = []
        for line in re.findall(r"^\| (.*) \|$", body, flags=re.MULTILINE):
            names, tests = line.split(" | ", 1)
            found = re.findall(r"tests/[\w/]+\.py::\w+", tests)
            covered = re.findall(r"`([^`]+)`", names)
            rows += (
                [(covered, found)] if covered and covered[0].startswith("-") else [([name], found) for name in covered]
            )
        chapters[heading.strip("` ")] = rows
    return chapters


CHAPTERS = _chapters()
ROWS_OF_ALL = [
    pytest.param(names, test, id=f"{heading} {names[0]} {test}")
    for heading, rows in CHAPTERS.items()
    for names, tests in rows
    for test in tests or [""]
]


def _names(heading: str) -> set[str]:
    return {name for names, _ in CHAPTERS[heading] for name in names}


Options = Callable[[str], dict[str, argparse.Action]]


@pytest.fixture
def options(monkeypatch: pytest.MonkeyPatch) -> Options:
    """The options of a command by flag, as its own parser has them when it is asked for help."""

    def ask(command: str) -> dict[str, argparse.Action]:
        parsers: list[argparse.ArgumentParser] = []
        monkeypatch.setattr(argparse.ArgumentParser, "print_help", lambda self, file=None: parsers.append(self))
        module, argv = COMMANDS[command]
        with pytest.raises(SystemExit):
            importlib.import_module(module).main([*argv, "--help"])
        actions = [action for action in parsers[-1]._actions if not isinstance(action, argparse._HelpAction)]
        return {flag: action for action in actions for flag in action.option_strings}

    return ask


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_exactly_the_options_of_the_command(command: str, options: Options) -> None:
    flags = {flag for flag in options(command) if not flag.startswith("--no-")}
    assert flags == _names(command)


@pytest.mark.parametrize("command", ORIGINAL["commands"])
def test_the_command_has_what_the_original_has(command: str, options: Options) -> None:
    actions = options(command)
    assert set(ORIGINAL["commands"][command]) <= actions.keys()
    for flag, values in ORIGINAL["choices"].get(command, {}).items():
        assert set(values) <= {str(choice) for choice in actions[flag].choices or []}, flag
    for flag, default in ORIGINAL["defaults"].get(command, {}).items():
        assert _plain(actions[flag].default) == default, flag


def _plain(default: Any) -> Any:
    if isinstance(default, list):
        return [_plain(item) for item in default]
    return default if isinstance(default, int | float | str) and type(default) in (int, float, str) else str(default)


@pytest.mark.parametrize("names, test", ROWS_OF_ALL)
def test_every_row_names_a_test_that_speaks_of_it(names: list[str], test: str) -> None:
    assert test, f"{names} has no test"
    path, function = test.split("::")
    text = (ROOT / path).read_text()
    functions = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    assert function in functions and function.startswith("test_")
    sources = [text, *((ROOT / run).read_text() for run in RUNS.get(path, []))]
    folder = (ROOT / path).parent
    while folder != ROOT:
        conftest = folder / "conftest.py"
        sources += [conftest.read_text()] if conftest.is_file() else []
        folder = folder.parent
    words = {name for word in names for name in (word, word.removeprefix("--").replace("-", "_"))}  # as a keyword too
    pattern = rf"(?<![\w-])({'|'.join(map(re.escape, words))})(?![\w-])"
    assert any(re.search(pattern, source.replace("\\", ""), flags=re.IGNORECASE) for source in sources)


@pytest.mark.parametrize(
    "heading, wanted",
    [
        ("Formats", ORIGINAL["formats"]),
        ("Configuration of a run", [key for key in ORIGINAL if key.endswith("_keys")]),
        ("Scripts", ORIGINAL["scripts"]),
        ("Environment", ORIGINAL["environment"]),
        ("Performance CSV", ORIGINAL["performance_columns"]),
    ],
)
def test_the_tables_have_everything_of_the_original(heading: str, wanted: list[str]) -> None:
    if heading == "Configuration of a run":
        wanted = [name for key in wanted if key != "feature_spec_keys" for name in ORIGINAL[key]]
    assert set(wanted) <= _names(heading)


def test_the_performance_csv_starts_with_the_columns_of_the_original() -> None:
    own = [column.name for column in PERFORMANCE_COLUMNS]
    assert own[: len(ORIGINAL["performance_columns"])] == ORIGINAL["performance_columns"]


def test_the_scripts_are_there_and_can_be_run() -> None:
    for script in ORIGINAL["scripts"]:
        assert (ROOT / script).is_file(), script
