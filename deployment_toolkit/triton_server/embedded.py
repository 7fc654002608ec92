"""Command ``tritonserver`` of this project's image: the embedded tritonserver with tritonserver's own options."""

from __future__ import annotations

from typing import NoReturn

from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.process import become
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.server_options import REGION_PREFIX_OPTION


def main(argv: list[str]) -> NoReturn:
    """Becomes the server, with its libraries and its backend."""
    installation = Installation.find()
    with installation.command() as command:
        if any(option.startswith(REGION_PREFIX_OPTION) for option in argv):
            command = [option for option in command if not option.startswith(REGION_PREFIX_OPTION)]
        become([*dict.fromkeys([*command, *argv])], env=installation.environment())


def cli() -> NoReturn:
    """Entry point of the installed command."""
    run_entry_point(main)


if __name__ == "__main__":
    cli()
