"""docs/coverage.md, generated from the parsers of the commands and the interface of the original.

``python -m tests.interface_page`` writes it."""

from __future__ import annotations

import argparse
import contextlib
import enum
import importlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS

PAGE = ROOT / "docs" / "coverage.md"
ORIGINAL = yaml.safe_load((ROOT / "tests" / "original_interface.yaml").read_text())

MODEL = ["--input-path", str(ROOT / "model.py")]
ROWS = ["--dataloader", str(ROOT / "dataloader.py")]
# How each command is asked for its help, with the plug-ins whose options join its own.
COMMANDS: dict[str, tuple[str, list[str]]] = {
    "export_model.py": ("export_model", [*MODEL, *ROWS]),
    "run_inference_on_fw.py": ("run_inference_on_fw", [*MODEL, *ROWS, "--input-type", "tf-keras"]),
    "run_inference_on_triton.py": ("run_inference_on_triton", ROWS),
    "score_dataset.py": ("score_dataset", ROWS),
    "calculate_metrics.py": ("calculate_metrics", ["--metrics", str(ROOT / "metrics.py")]),
    "run_performance_on_triton.py": ("run_performance_on_triton", ROWS),
    "model-navigator convert": ("navigator.__main__", ["convert", *ROWS]),
    "model-navigator triton-config-model": ("navigator.__main__", ["triton-config-model"]),
    "python -m runner": ("runner.__main__", []),
    "check_correctness.py": ("check_correctness", ["--metrics", str(ROOT / "metrics.py")]),
    "deploy_ensemble.py": ("deploy_ensemble", []),
    "python -m deployment_toolkit.triton_server": ("deployment_toolkit.triton_server.__main__", []),
    "python -m deployment_toolkit.triton_server.health": ("deployment_toolkit.triton_server.health.__main__", []),
    **{
        f"python -m deployment_toolkit.rollout {name}": ("deployment_toolkit.rollout.__main__", [name])
        for name in ("stage", "promote", "back", "finish", "status")
    },
    "python -m deployment_toolkit.rollout gate": (
        "deployment_toolkit.rollout.__main__",
        ["gate", *ROWS, "--metrics", str(ROOT / "metrics.py")],
    ),
    "python -m widedeep.synthetic": ("widedeep.synthetic", []),
    "scripts/preproc.sh": ("widedeep.preprocessing.__main__", []),
    "scripts/train.sh": ("widedeep.training", []),
    "python -m runner.compare": ("runner.compare.__main__", []),
    "python -m runner.published": ("runner.published", []),
    "python -m runner.keep_report": ("runner.keep_report", []),
}
_HEAD = """# Coverage

This page lists what the original's users call, write and read, and what this project adds. It is generated from the
commands' own options (`python -m tests.interface_page`); `tests/test_coverage.py` compares it, and the commands
themselves, with the original's interface (`tests/original_interface.yaml`).

What differs from the original:

- Some defaults: the table below says which, and why.
- `tf-trt` and `trt` are tested against mocks of the real interfaces: [gpu-checklist.md](gpu-checklist.md) lists what
  remains to be run on a GPU.
- The original's commands run as its README prints them, or say at once what they need.

In the tables *ours* marks what the original does not have.
"""
CONFIGURATION = "the configuration of a run"


def options_of(command: str) -> list[argparse.Action]:
    """Options of a command."""
    return [action for action in parser_of(command)._actions if not isinstance(action, argparse._HelpAction)]


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command uses for its help."""
    parsers: list[argparse.ArgumentParser] = []

    def keep(parser: argparse.ArgumentParser, file: object = None) -> None:
        parsers.append(parser)

    module, argv = COMMANDS[command]
    with mock.patch.object(argparse.ArgumentParser, "print_help", keep), contextlib.suppress(SystemExit):
        importlib.import_module(module).main([*argv, "--help"])
    return parsers[-1]


def kept_default(command: str, name: str) -> dict[str, Any] | None:
    """Entry of this project's default of an option or a key, if it is not the original's."""
    entries = ORIGINAL["kept_defaults"]
    return next((item for item in entries if name in item["name"] and command in item.get("of", [command])), None)


def page() -> str:
    """The complete text of the page."""
    return "\n".join([_HEAD, *_lines()])


def _lines() -> Iterator[str]:
    yield "## Defaults that differ\n"
    yield from _table(("of", "option", "the original's", "here", "why"), list(_kept_rows()))
    yield "## Commands\n"
    for command in COMMANDS:
        known = ORIGINAL["commands"].get(command)
        yield f"### `{command}`\n"
        if known is None:
            yield "Ours.\n"
        rows = [_row(action, known) for action in options_of(command)]
        yield from _table(("option", "default", "", "what"), rows)
    yield "## Formats\n"
    formats = [(str(item), "" if str(item) in ORIGINAL["formats"] else "ours") for item in Format]
    yield from _table(("format", ""), [(f"`{name}`", origin) for name, origin in formats])
    yield "## Configuration of a run\n\n[configuration.md](configuration.md) explains every key. The original's are:\n"
    keys = [
        key for name in ORIGINAL if name.endswith("_keys") and name != "feature_spec_keys" for key in ORIGINAL[name]
    ]
    yield ", ".join(f"`{key}`" for key in dict.fromkeys(keys)) + ".\n"
    yield "## Feature specification\n\nThe original's keys:\n"
    yield ", ".join(f"`{key}`" for key in ORIGINAL["feature_spec_keys"]) + ".\n"
    yield "## Scripts\n\nThe original's:\n"
    yield ", ".join(f"`{name}`" for name in ORIGINAL["scripts"]) + ".\n"
    yield "## Environment\n\nVariables that `scripts/setup_environment.sh` sets:\n"
    yield ", ".join(f"`{name}`" for name in ORIGINAL["environment"]) + ".\n"
    yield "## Performance CSV\n\nLatencies are microseconds.\n"
    columns = [
        (column.name, "" if column.name in ORIGINAL["performance_columns"] else "ours")
        for column in PERFORMANCE_COLUMNS
    ]
    yield from _table(("column", ""), [(f"`{name}`", origin) for name, origin in columns])


def _kept_rows() -> Iterator[tuple[str, ...]]:
    for command, defaults in (*ORIGINAL["defaults"].items(), (CONFIGURATION, ORIGINAL["config_defaults"])):
        for name, default in defaults.items():
            kept = kept_default(command, name)
            if kept is not None:
                shown = [f"`{text}`" if (text := _plain(value)) else "none" for value in (default, kept["ours"])]
                where = command if command == CONFIGURATION else f"`{command}`"
                yield where, f"`{name}`", *shown, kept["why"]


def _row(action: argparse.Action, known: Sequence[str] | None) -> tuple[str, ...]:
    flags = action.option_strings or [action.dest]
    ours = known is not None and not set(flags) & set(known)
    help_text = (action.help or "").partition(" (default")[0]
    choices = [str(choice) for choice in action.choices or []]
    if choices:
        help_text = f"{help_text}: {', '.join(f'`{choice}`' for choice in choices)}"
    shown = ", ".join(f"`{flag}`" for flag in flags if not str(flag).startswith("--no-"))
    return shown, _default(action), "ours" if ours else "", " ".join(help_text.split())


def _default(action: argparse.Action) -> str:
    if action.required:
        return "required"
    text = _plain(action.default)
    return f"`{text}`" if text else ""


def _plain(value: Any) -> str:
    if value is None or value is argparse.SUPPRESS or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(_plain, value))
    if isinstance(value, Path) or (isinstance(value, str) and os.sep in value):
        return str(value).replace(f"{ROOT}/", "")
    return str(value.value) if isinstance(value, enum.Enum) else str(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


if __name__ == "__main__":
    write_text(PAGE, page())
