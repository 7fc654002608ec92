"""Compares runs: each with the first.

A run is a folder of runner_workspace/runs or its name there (latest, too), a report that is kept under reports/ by its
name, or the published figures of a GPU host (published:A30). With one run, the latest is compared with it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.results.performance import markdown_table
from runner.compare.comparison import TEXT, Comparison
from runner.compare.tables import in_words, verdict_counts
from runner.config.baseline import parse_share
from runner.kept_run import LATEST, find_run

logger = logging.getLogger("compare")


@dataclass(frozen=True)
class CompareOptions:
    """Options of the command. Raises UsageError if ``max_regression`` is no percentage."""

    max_regression: str | None = option(
        "exit with 3 if correctness got worse, or a figure is worse than the first run's by more than this percentage "
        "at every ratio of its interval",
        None,
        metavar="PERCENT",
    )
    output_path: Path | None = option(
        "folder to write, in place of an earlier comparison; default: named after the runs in the workspace's "
        "comparisons",
        None,
    )
    workspace_path: Path = option("folder of checkpoints, models and results", Path("runner_workspace"))
    reports_dir: Path = option("folder of the kept reports", ROOT / "reports")

    def __post_init__(self) -> None:
        _ = self.limit

    @property
    def limit(self) -> float | None:
        """``max_regression`` as a share."""
        return None if self.max_regression is None else parse_share(self.max_regression)

    def folder(self, names: Sequence[str]) -> Path:
        """Folder of a comparison of runs with these names."""
        if self.output_path is not None:
            return self.output_path
        name = "_vs_".join(re.sub(r"[^A-Za-z0-9_.-]+", "_", name) for name in [*names[1:], names[0]])
        return self.workspace_path / "comparisons" / name[:_LONGEST_NAME]


_LONGEST_NAME = 200


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the run to compare with, then the others")
    add_dataclass(parser, CompareOptions)
    args = parser.parse_args(argv)
    options = from_args(CompareOptions, args)
    texts = args.runs if len(args.runs) > 1 else [*args.runs, LATEST]
    comparison = Comparison.of([find_run(text, options.workspace_path, options.reports_dir) for text in texts])
    judgement = None if options.limit is None else comparison.judge(options.limit)
    folder = options.folder(comparison.names)
    comparison.write(folder, judgement)
    print("\n".join(in_words(comparison.lines, comparison.names)))
    print(f"\n{markdown_table(verdict_counts(comparison.lines))}", end="")
    if judgement is not None:
        print(f"\n{judgement.sentence}")
        for line in judgement.told:
            print(f"- {line}")
    print(f"\ncomparison: {folder / TEXT}")
    return 0 if judgement is None else judgement.exit_code


if __name__ == "__main__":
    run_entry_point(main)
