"""Keeps the readable results of a run under ``reports/``.

    python -m runner.keep_report RUN NAME

copies report.md, task.yaml, the summaries with the rows of all experiments, the pictures, the comparison with a
baseline and, for each experiment, the table of its search and ``config.pbtxt``; report.html is made anew of these.
Files that repeat those tables or only run on the host that made them are not copied. The checkout's path is removed
from file names.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.options.params import make_parser, run_entry_point
from runner.report.capacity import LOGS_NOTE
from runner.report.html.page import write_run_page
from runner.report.page import REPLAY_NOTE

logger = logging.getLogger("keep_report")

KEPT = (
    "report.md",
    "task.yaml",
    "*_summary.csv",
    "plots/*.png",
    "comparison/*",
    "experiment_*/search.csv",
    "experiment_*/config.pbtxt",
    "experiment_*/ensemble/config.pbtxt",
)
_TEXTS = (".md", ".yaml", ".csv", ".pbtxt", ".html")
_CHOSEN = re.compile(r"\]\((experiment_\d+)/search/config\.pbtxt\)")  # a second copy of the deployed configuration
_LOGS = re.compile(re.escape(LOGS_NOTE).replace(re.escape("{}"), "[^`]*"))


def keep(run: Path, name: str, reports: Path) -> Path:
    """Copies the run in the folder ``run`` to ``reports/name``, which is replaced; returns that folder. Raises
    UsageError if there is no run or the name is invalid, DataError if its files can't be read or the folder can't be
    written."""
    if not (run / "task.yaml").is_file():
        raise UsageError(f"{run} is no run (it has no task.yaml): give a folder of runner_workspace/runs")
    if not re.fullmatch(r"[a-z0-9_]+", name):
        raise UsageError(f"name {name}: use lower case letters, digits and _")
    run, place = run.resolve(), reports / name
    with replace_when_complete(place) as beside:
        for path in sorted({path for pattern in KEPT for path in run.glob(pattern)}):
            target = beside / path.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes()
            target.write_bytes(_portable(content.decode()).encode() if path.suffix in _TEXTS else content)
        write_run_page(beside, name=name)
    return place


def _portable(text: str) -> str:
    """Text without the checkout's path, and without links to files that are not kept."""
    text = text.replace(f"{ROOT}/", "").replace(str(ROOT), ".")
    return _LOGS.sub("", _CHOSEN.sub(r"](\1/config.pbtxt)", text.replace(REPLAY_NOTE, "")))


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("name", help="of the folder in reports/")
    parser.add_argument("--reports-dir", type=Path, default=ROOT / "reports", help="folder of all kept runs")
    given = parser.parse_args(argv)
    place = keep(given.run, given.name, given.reports_dir)
    files = [path for path in place.rglob("*") if path.is_file()]
    logger.info("%d files, %.1f MB: %s", len(files), sum(path.stat().st_size for path in files) / 1e6, place)


if __name__ == "__main__":
    run_entry_point(main)
