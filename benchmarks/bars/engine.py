"""Measures rows per second of a stored model in this process, on the rows of a data set; prints JSON by batch size.

Run from the repository's root: ``python -m benchmarks.bars.engine --input-path MODEL --input-type openvino …``
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bars.timing import calls_per_s
from deployment_toolkit.core import Arrays, DataloaderFn, Format
from deployment_toolkit.errors import DataError
from deployment_toolkit.library import registry
from deployment_toolkit.options.command_line import DATALOADER, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.rows.batches import exact_batches

_BATCHES = 6  # distinct batches, so that no table's rows stay in the cache


@dataclass(frozen=True)
class EngineOptions:
    """Options of this command, in addition to the dataloader's."""

    input_path: Path = option("stored model")
    input_type: Format = option("its format")
    dataloader: Path = option("module with get_dataloader_fn")
    rows_per_call: list[int] = option("batch sizes")
    threads: int | None = option("threads of one inference; default: the runtime's choice", None)
    seconds: float = option("seconds that each batch size is measured", 3.0)


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [EngineOptions], [DATALOADER])
    options = command.get(EngineOptions)
    dataloader_fn = command.call(DATALOADER)
    with registry.loader(options.input_type)(threads=options.threads).load(options.input_path) as session:
        rates = {
            batch: batch * calls_per_s(session.infer_impl, _batches(dataloader_fn, batch), options.seconds)
            for batch in options.rows_per_call
        }
    print(json.dumps(rates))


def _batches(dataloader_fn: DataloaderFn, rows: int) -> list[Arrays]:
    full = (x for x in exact_batches((x for _, x, _ in dataloader_fn()), rows) if len(next(iter(x.values()))) == rows)
    batches = list(itertools.islice(full, _BATCHES))
    if not batches:
        raise DataError(f"the data set has fewer than {rows} rows: give more, or a smaller --rows-per-call")
    return batches


if __name__ == "__main__":
    run_entry_point(main)
