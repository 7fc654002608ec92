"""Embedding widths from a YAML or JSON file, ``{feature: width}``, like the original's ``embedding_sizes.json``."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from deployment_toolkit.options.located_yaml import Located, load_yaml, nearest
from widedeep.features.outbrain import embedding_widths
from widedeep.features.spec import FeatureSpec

logger = logging.getLogger("embedding sizes")

_MOST_WIDTH = 1_000_000


def load_embedding_sizes(path: Path | None, spec: FeatureSpec, *, others: bool = False) -> dict[str, int]:
    """Width of every categorical feature. A feature that is not in the file, or any feature without a file, has
    Outbrain's width or 64; features that a file leaves out are logged.

    Raises DataError with file and line for a width that is no whole number of at least 1, and for a name that is no
    categorical feature of the specification, unless ``others`` allows such names.
    """
    return embedding_widths(spec) if path is None else parse_embedding_sizes(load_yaml(path), spec, others=others)


def parse_embedding_sizes(document: Located, spec: FeatureSpec, *, others: bool = False) -> dict[str, int]:
    """Reads the widths in a mapping; see ``load_embedding_sizes``."""
    widths = embedding_widths(spec)
    given = {
        name: entry.count(f"the width of {name}", _MOST_WIDTH)
        for name, entry in document.entries("embedding sizes").items()
    }
    numbers = {feature.name for feature in spec.numerical}
    for name, entry in document.entries("embedding sizes").items():
        if name in numbers:
            raise entry.error(f"{name} is a number, it has no embedding: leave it out")
        if name not in widths and not others:
            raise entry.error(f"{name} is no categorical feature of the specification{nearest(name, widths)}")
    left_out = [name for name in widths if name not in given]
    if left_out:
        told = ", ".join(f"{name} {widths[name]}" for name in left_out)
        logger.info("%s leaves out, so that their widths are the defaults: %s", document.path, told)
    return {name: given.get(name, width) for name, width in widths.items()}


def embedding_sizes_to_json(widths: Mapping[str, int]) -> str:
    """Text of a file in JSON, which the original's training reads too."""
    return json.dumps(dict(widths), indent=2) + "\n"
