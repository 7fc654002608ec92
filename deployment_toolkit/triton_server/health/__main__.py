"""Asks models of a running server for one row each, as a probe of their health: ``python -m
deployment_toolkit.triton_server.health``. Exits with 0 if all answer in time, else with 1 and one line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import ServerError, UsageError
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_server.health.question import Question, read_row


@dataclass(frozen=True)
class HealthOptions:
    """Options of the command."""

    model_name: list[str] = option("models to ask", nargs="+", unique=True)
    server_url: str = option(
        "the server, as http://host:port or grpc://host:port, or https:// or grpcs://", "http://localhost:8000"
    )
    model_version: str = option("version of the model; by default the server's choice", "")
    timeout_s: float = option("longest time until all have answered, seconds", 5.0)
    row: Path | None = option(
        "JSON file with the row to send, a value or a list for each input; by default zeros, or the nearest value in "
        "an input's range",
        None,
    )

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < float("inf"):
            raise UsageError(f"--timeout-s must be above 0, not {self.timeout_s:g}")
        given = {"--model-version": self.model_version, "--row": self.row}
        for name, value in given.items():
            if value and len(self.model_name) > 1:
                raise UsageError(f"{name} is for one model: give one --model-name, or leave it out")


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, HealthOptions)
    add_dataclass(parser, AccessOptions)
    arguments = parser.parse_args(argv)
    options = from_args(HealthOptions, arguments)
    url = from_args(AccessOptions, arguments).url(options.server_url)
    row = None if options.row is None else read_row(options.row)
    deadline = time.monotonic() + options.timeout_s
    problems = []
    for name in options.model_name:
        begun = time.monotonic()
        try:
            Question.make(url, name, options.model_version, deadline, row).ask(url, deadline)
        except ServerError as error:
            problems.append(f"model {name} is not healthy: {error}")
        else:
            print(f"model {name} answers, after {time.monotonic() - begun:.3f} s")
    if problems:
        raise ServerError("; ".join(problems))


if __name__ == "__main__":
    run_entry_point(main)
