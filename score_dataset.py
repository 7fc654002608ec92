"""Scores any number of rows into parquet parts, on one host or on a cluster: batches + model -> parts."""

from __future__ import annotations

from deployment_toolkit.bulk_scoring.options import ScoringOptions
from deployment_toolkit.bulk_scoring.scoring import score_dataset
from deployment_toolkit.cluster import ClusterOptions
from deployment_toolkit.options.command_line import DATALOADER, model_plugins, read_command_line
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.server_access.access_options import AccessOptions


def main(argv: list[str]) -> None:
    groups = [ScoringOptions, ClusterOptions, AccessOptions]
    score_dataset(read_command_line(__doc__, argv, groups, [DATALOADER, *model_plugins(argv)]))


if __name__ == "__main__":
    run_entry_point(main)
