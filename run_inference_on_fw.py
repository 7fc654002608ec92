"""Answers a dataset in this process: batches + stored model -> dumps."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit import registry
from deployment_toolkit.core import DataloaderModule, Format, ModelModule
from deployment_toolkit.dump import DumpOptions, write_predictions
from deployment_toolkit.params import (
    OneLineParser,
    Plugin,
    add_dataclass,
    from_args,
    keywords_for,
    make_parser,
    option,
    parse_with_plugins,
    run_entry_point,
)

logger = logging.getLogger("inference")


@dataclass(frozen=True)
class FrameworkOptions:
    """Options of this script beside those of the dump, the loader and the dataloader."""

    input_path: Path = option("stored model, or module with get_model")
    input_type: Format = option("format of the model; tf-trt and trt need a GPU")
    dataloader: Path = option("module with get_dataloader_fn")
    threads: int | None = option("threads of one inference on a CPU; default: the runtime's choice", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__)
    add_dataclass(parser, FrameworkOptions)
    add_dataclass(parser, DumpOptions)
    plugins = [Plugin("dataloader", DataloaderModule, "get_dataloader_fn")]
    if _reads_module(argv):
        plugins.append(Plugin("input-path", ModelModule, "get_model"))
    args, modules = parse_with_plugins(parser, argv, plugins)
    options = from_args(FrameworkOptions, args)
    get_dataloader_fn = modules["dataloader"].get_dataloader_fn
    dataloader_fn = get_dataloader_fn(**keywords_for(get_dataloader_fn, args))
    started = time.monotonic()
    logger.info("loading %s", options.input_path)
    loader = registry.loader(options.input_type)
    loader_options = keywords_for(loader.__init__, args)
    with loader(**loader_options).load(options.input_path) as session:
        logger.info("loaded in %.1f s", time.monotonic() - started)
        write_predictions(session, dataloader_fn, from_args(DumpOptions, args))


def _reads_module(argv: list[str]) -> bool:
    """Whether the model is made by a module, which may bring options of its own."""
    first = OneLineParser(add_help=False, allow_abbrev=False)
    first.add_argument("--input-type")
    return bool(first.parse_known_args(argv)[0].input_type == Format.TF_KERAS)


if __name__ == "__main__":
    run_entry_point(main)
