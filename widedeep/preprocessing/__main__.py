"""Preprocesses the raw Outbrain CSVs: ``python -m widedeep.preprocessing``, run by ``scripts/preproc.sh``."""

from __future__ import annotations

import logging
import time

from deployment_toolkit.cluster import ClusterOptions, open_cluster
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, run_entry_point
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess

logger = logging.getLogger("preprocessing")


def main(argv: list[str]) -> None:
    """Entry point of ``scripts/preproc.sh``."""
    parser = make_parser("Preprocesses Outbrain's raw tables with NVTabular into train/, valid/ and feature_spec.yaml.")
    add_dataclass(parser, PreprocessingOptions)
    add_dataclass(parser, ClusterOptions)
    args = parser.parse_args(argv)
    options, cluster_options = from_args(PreprocessingOptions, args), from_args(ClusterOptions, args)
    started = time.monotonic()
    with open_cluster(cluster_options) as cluster:
        rows = preprocess(options, cluster)
    seconds = time.monotonic() - started
    logger.info(
        "%s train and %s valid rows written to %s in %.0f s (%s rows/s)",
        f"{rows['train']:,}", f"{rows['valid']:,}", options.output_dir, seconds, f"{sum(rows.values()) / seconds:,.0f}",
    )  # fmt: skip


if __name__ == "__main__":
    run_entry_point(main)
