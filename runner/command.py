"""Commands of a stage, and the shell that runs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from deployment_toolkit.checkout import ROOT


@dataclass(frozen=True)
class Command:
    """A child process and the name of its log. ``private`` are environment variables with secrets, which the command
    names in place of the secrets themselves. ``makes`` is a file or folder that depends on nothing but the other
    arguments, so that experiments of a run can share it; files whose names begin with its name belong to it."""

    name: str
    argv: tuple[str, ...]
    private: Mapping[str, str] = field(default_factory=dict, repr=False)
    makes: Path | None = None

    @property
    def recipe(self) -> tuple[str, ...]:
        """The arguments without the place of what is made: equal for commands that make the same."""
        return tuple(part for part in self.argv if part != str(self.makes))


class Shell(Protocol):
    """Runs the commands of a stage."""

    def run(self, command: Command) -> None:
        """Runs a command to its end. Raises ProcessError if it fails. The replay script skips a command that fails
        without ending the stage."""

    def tell(self, text: str) -> None:
        """Shows a text to the user."""

    def note(self, text: str) -> None:
        """Records what people should know of a stage that ended well, and shows it with the stage's end."""


def script(name: str, *options: object) -> list[object]:
    """The start of a root script's command line."""
    return [sys.executable, ROOT / name, *options]


def make_command(
    name: str, argv: Sequence[object], private: Mapping[str, str] | None = None, makes: Path | None = None
) -> Command:
    """A command of any printable parts."""
    return Command(name, tuple(str(part) for part in argv), private or {}, makes)


def module_command(name: str, module: str, *options: object) -> Command:
    """A command that runs a module of this project."""
    return make_command(name, (sys.executable, "-m", module, *options))
