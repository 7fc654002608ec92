"""Exports a checkpoint to a stored model: ``model.py`` + checkpoint -> SavedModel or ONNX."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Batch, Format, Mnemonic
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import replace_when_complete, require_writable
from deployment_toolkit.library import registry
from deployment_toolkit.options.command_line import DATALOADER, MODEL, CommandLine, read_command_line
from deployment_toolkit.options.params import option, run_entry_point

logger = logging.getLogger("export")


class TorchJit(Mnemonic):
    """Compilation of a PyTorch model; this project exports TensorFlow models, so only ``none`` is accepted."""

    NONE = "none"
    TRACE = "trace"
    SCRIPT = "script"


@dataclass(frozen=True)
class ExportOptions:
    """Options of this script."""

    input_path: Path = option("module with get_model")
    output_path: Path = option("path of the exported model; replaced when the new one is complete")
    input_type: Format = option(
        "format that the module makes", choices=[Format.TF_ESTIMATOR, Format.TF_KERAS, Format.PYT]
    )
    output_type: Format = option(
        "format of the exported model", choices=[Format.TF_SAVEDMODEL, Format.TORCHSCRIPT, Format.ONNX]
    )
    torch_jit: TorchJit = option("PyTorch only", TorchJit.NONE)
    dataloader: Path | None = option(
        "module with get_dataloader_fn: the exported model must answer its first batch", None
    )
    ignore_unknown_parameters: bool = option("ignore arguments that no option takes", False)


def main(argv: list[str]) -> None:
    command = read_command_line(__doc__, argv, [ExportOptions], [MODEL, DATALOADER])
    options = command.get(ExportOptions)
    if options.torch_jit is not TorchJit.NONE:
        command.parser.error(f"--torch-jit {options.torch_jit} is for PyTorch models: leave it out")
    saver = registry.saver(options.input_type, options.output_type)()
    export(options, saver, command)


def export(options: ExportOptions, saver: Any, command: CommandLine) -> None:
    """Loads the model, checks the first batch if there is a dataloader, and writes the model."""
    started = time.monotonic()
    require_writable(options.output_path)
    logger.info("loading %s", options.input_path)
    session = command.make(registry.loader(options.input_type)).load(options.input_path)
    if command.names(DATALOADER):
        first = next(iter(command.call(DATALOADER)()), None)
        if first is None:
            raise DataError(f"{options.dataloader} yields no rows: check its data")
        batch = Batch(*first)
        session.infer(batch.x)
        logger.info("answered a batch of %d rows", len(batch))
    with replace_when_complete(options.output_path) as beside:
        saver.save(session, beside)
    logger.info("wrote %s to %s in %.1f s", options.output_type, options.output_path, time.monotonic() - started)


if __name__ == "__main__":
    run_entry_point(main)
