"""Joined clicks before preprocessing: the rows for requests to a model of raw features.

    python -m widedeep.raw_rows --raw-dir datasets/outbrain_raw --output-dir datasets/outbrain_joined

makes ``valid/*.parquet`` with the same rows in the same order as the preprocessed ``valid/*.parquet``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import remove, replace_when_complete
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point

LOGGER = logging.getLogger("raw rows")

SPLITS = ("train", "valid")


@dataclass(frozen=True)
class RawRowsOptions:
    """Options of the command."""

    raw_dir: Path = option("folder with Outbrain's CSV files, unzipped or each in a zip")
    output_dir: Path = option("folder to make; must not exist, or be empty")
    splits: list[str] = option("which rows to keep", ["valid"], nargs="+", choices=SPLITS, unique=True)

    def __post_init__(self) -> None:
        output = self.output_dir
        if output.exists() and not (output.is_dir() and not entries(output)):
            raise UsageError(f"--output-dir {output} is there already: give another folder")


def join_raw_rows(options: RawRowsOptions) -> dict[str, int]:
    """Writes the rows; returns their number per split. Raises DataError if a raw file is missing or invalid."""
    from widedeep.preprocessing.joined_clicks import join_clicks
    from widedeep.preprocessing.raw_csv import check_files

    check_files(options.raw_dir)
    with replace_when_complete(options.output_dir) as beside:
        beside.mkdir()
        files = join_clicks(options.raw_dir, beside)
        for folder in beside.iterdir():
            if folder.name not in options.splits:
                remove(folder)
        return {split: sum(file.rows for file in files[split]) for split in options.splits}


def main(argv: list[str]) -> None:
    """Entry point of ``python -m widedeep.raw_rows``."""
    parser = make_parser("Joins the raw Outbrain CSVs into rows as they are before preprocessing.")
    add_dataclass(parser, RawRowsOptions)
    options = from_args(RawRowsOptions, parser.parse_args(argv))
    for split, rows in join_raw_rows(options).items():
        LOGGER.info("%s %s rows written to %s", f"{rows:,}", split, options.output_dir / split)


if __name__ == "__main__":
    run_entry_point(main)
