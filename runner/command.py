"""Commands of a stage, and the shell that runs them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployment_toolkit.checkout import ROOT


@dataclass(frozen=True)
class Command:
    """A child process and the name of its log. ``private`` are environment variables with secrets, which the command
    names in place of the secrets themselves."""

    name: str
    argv: tuple[str, ...]
    private: Mapping[str, str] = field(default_factory=dict, repr=False)


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


def make_command(name: str, argv: Sequence[object], private: Mapping[str, str] | None = None) -> Command:
    """A command of any printable parts."""
    return Command(name, tuple(str(part) for part in argv), private or {})


def module_command(name: str, module: str, *options: object) -> Command:
    """A command that runs a module of this project."""
    return make_command(name, (sys.executable, "-m", module, *options))
