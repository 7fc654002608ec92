"""Makes the page of a run again: ``python -m runner.report.html RUN``."""

from __future__ import annotations

import logging
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import make_parser, run_entry_point
from runner.kept_run import find_run
from runner.report.html.page import PAGE, write_run_page

logger = logging.getLogger("report")


def main(argv: list[str]) -> None:
    parser = make_parser("Writes report.html of a run from the other files in its folder.")
    parser.add_argument("run", help="folder of a run, its name, latest, or the name of a kept report")
    parser.add_argument("--workspace", type=Path, default=Path("runner_workspace"), help="folder of all runs")
    parser.add_argument("--reports-dir", type=Path, default=ROOT / "reports", help="folder of all kept runs")
    given = parser.parse_args(argv)
    run = find_run(given.run, given.workspace, given.reports_dir)
    if not run.stages:
        raise UsageError(f"{given.run} has no page of its own: python -m runner.compare draws it beside a run")
    write_run_page(run.folder)
    logger.info("%s", run.folder / PAGE)


if __name__ == "__main__":
    run_entry_point(main)
