"""Plug-in for ``--input-path``: a checkpoint of this project or of the original -> the Wide & Deep network."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deployment_toolkit.core import Mnemonic, ValueRange
from deployment_toolkit.options.params import add_dataclass, option
from widedeep.features.options import NetworkOptions
from widedeep.model.network_description import NetworkDescription, describe_network

if TYPE_CHECKING:
    import argparse

logger = logging.getLogger("model")


class ExportPrecision(Mnemonic):
    """Number format that the network computes in; its variables stay in fp32."""

    FP32 = "fp32"
    FP16 = "fp16"


@dataclass(frozen=True)
class ModelOptions(NetworkOptions):
    """Options of ``get_model``."""

    precision: ExportPrecision = option("number format that the network computes in", ExportPrecision.FP16)
    checkpoint_dir: Path | None = option("folder of the checkpoint; without one the weights are random", None)


def update_argparser(parser: argparse.ArgumentParser) -> None:
    """Adds the options of ``ModelOptions``."""
    add_dataclass(parser, ModelOptions)


def get_model(**values: Any) -> tuple[Any, Callable[[Any], Any]]:
    """Makes the network and the function from a dict of input tensors to ``[B, 1]`` float32 probabilities.

    Options that are not given come from ``network.yaml`` in the checkpoint's folder; a checkpoint without this file,
    like the original's, belongs to the original's network. Raises ModelError if the checkpoint is missing or belongs to
    another network.
    """
    from widedeep.model.checkpoint import load_checkpoint
    from widedeep.model.network import build_network

    options = _options(values)
    description = _describe(options)
    logger.info(description.sources)
    network = build_network(
        description.spec,
        description.embedding_widths,
        hidden_units=description.hidden_units,
        dropout=options.deep_dropout,
        combiner=description.combiner,
        compute_dtype="float16" if options.precision is ExportPrecision.FP16 else "float32",
    )
    if options.checkpoint_dir is not None:
        load_checkpoint(network, options.checkpoint_dir)
    return network, network


def get_value_ranges(**values: Any) -> dict[str, ValueRange]:
    """Lowest and highest id of each categorical input."""
    return _describe(_options(values)).spec.value_ranges


def _describe(options: ModelOptions) -> NetworkDescription:
    return describe_network(options, checkpoint_dir=options.checkpoint_dir)


def _options(values: dict[str, Any]) -> ModelOptions:
    return ModelOptions(**{name: values[name] for name in ModelOptions.__dataclass_fields__ if name in values})
