"""Prints the launch modes of a run's servers for the start scripts: a line per launch mode, with the numbers of its
experiments. Takes the runner's command line."""

from __future__ import annotations

import logging

from deployment_toolkit.options.params import run_entry_point
from runner.__main__ import read_command_line


def main(argv: list[str]) -> None:
    logging.disable(logging.INFO)  # the run logs the ignored keys of the configuration
    config, numbers, _ = read_command_line(argv)
    by_mode: dict[str, list[str]] = {}
    for number in numbers:
        by_mode.setdefault(config.launch_mode_of(config.configurations[number - 1]), []).append(str(number))
    for mode, listed in by_mode.items():
        print(mode, *listed)


if __name__ == "__main__":
    run_entry_point(main)
