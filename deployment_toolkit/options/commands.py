"""Programs of several commands: which one the first argument names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from deployment_toolkit.options.params import OneLineParser


def chosen_command(program: str, usage: str, purposes: Mapping[str, str], argv: Sequence[str], about: str = "") -> str:
    """The command that ``argv`` begins with, one of ``purposes``, which say what each does. ``--help`` lists them,
    below ``about``, and exits. Raises UsageError for another command, or none."""
    width = max(map(len, purposes)) + 3
    commands = "\n".join(f"  {name:<{width}}{purpose}" for name, purpose in purposes.items())
    front = OneLineParser(
        prog=program,
        usage=usage,
        description=f"{about}\ncommands (each has --help):\n{commands}".lstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    front.add_argument("command", choices=list(purposes), metavar="COMMAND", help="one of the above")
    name: str = front.parse_args(argv[:1]).command
    return name
