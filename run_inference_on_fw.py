"""Runs a stored model on a dataset in this process: batches + stored model -> dumps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Format
from deployment_toolkit.library import registry
from deployment_toolkit.options.command_line import DATALOADER, model_plugins, read_command_line
from deployment_toolkit.options.params import option, run_entry_point
from deployment_toolkit.rows.dump import DumpOptions, write_predictions

logger = logging.getLogger("inference")


@dataclass(frozen=True)
class FrameworkOptions:
    """Options of this script, in addition to those of the dump, the loader and the dataloader."""

    input_path: Path = option("stored model, or module with get_model")
    input_type: Format = option("format of the model; tf-trt and trt need a GPU")
    dataloader: Path = option("module with get_dataloader_fn")
    threads: int | None = option("threads of one inference on a CPU; default: the runtime's choice", None)


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [FrameworkOptions, DumpOptions], [DATALOADER, *model_plugins(argv)])
    options = command.get(FrameworkOptions)
    dataloader_fn = command.call(DATALOADER)
    started = time.monotonic()
    logger.info("loading %s", options.input_path)
    with command.make(registry.loader(options.input_type)).load(options.input_path) as session:
        logger.info("loaded in %.1f s", time.monotonic() - started)
        write_predictions(session, dataloader_fn, command.get(DumpOptions))


if __name__ == "__main__":
    run_entry_point(main)
