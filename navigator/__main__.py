"""Command ``model-navigator COMMAND …``: converts a model, or configures it on a Triton server.

A command is a module with ``add_options(parser)``, which adds its own options, ``run(args)``, which returns the exit
code, ``PLUGINS``, the modules that its options name, and ``NOTES``, the meaning of common options for it. It is
imported when it is used.
"""

from __future__ import annotations

import importlib
import typing

from deployment_toolkit.options.commands import chosen_command
from deployment_toolkit.options.config_file import parse_options
from deployment_toolkit.options.params import make_parser, run_entry_point
from navigator.options import add_common_options

COMMANDS = {
    "convert": ("navigator.convert", "make another format of a model and compare its answers"),
    "triton-config-model": ("navigator.triton_config_model", "put a model into a server's repository and load it"),
}


def main(argv: list[str]) -> int | None:
    """Runs the command that the first argument names, with the other arguments."""
    purposes = {name: purpose for name, (_, purpose) in COMMANDS.items()}
    name = chosen_command("model-navigator", "model-navigator COMMAND [options]", purposes, argv)
    module_name, purpose = COMMANDS[name]
    module = importlib.import_module(module_name)
    parser = make_parser(purpose)
    parser.prog = f"model-navigator {name}"
    add_common_options(parser, module.NOTES)
    module.add_options(parser)
    args = parse_options(parser, argv[1:], module.PLUGINS)
    args.command_line = argv[1:]  # for a container
    code: int | None = module.run(args)
    return code


def cli() -> typing.NoReturn:
    """Entry point of the installed command."""
    run_entry_point(main)


if __name__ == "__main__":
    cli()
