"""Description of a network, from the first source that has one: the command line, then ``network.yaml`` in the
checkpoint's folder, then the training data set, then the original's network over the Outbrain features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.options.located_yaml import Located, load_yaml
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.features.options import Combiner, NetworkOptions, read_feature_spec
from widedeep.features.spec import FeatureSpec, parse_feature_spec
from widedeep.model.embedding_sizes import load_embedding_sizes, parse_embedding_sizes

DESCRIPTION_NAME = "network.yaml"
HIDDEN_UNITS = (1024, 1024, 1024, 1024, 1024)
_MOST_UNITS = 1_000_000
_KEYS = ("deep_hidden_units", "combiner", "embedding_sizes", "feature_spec")


@dataclass(frozen=True)
class NetworkDescription:
    """Settings that determine the variables of a network, and the combiner. ``sources`` names their sources."""

    spec: FeatureSpec
    embedding_widths: Mapping[str, int]
    hidden_units: tuple[int, ...] = HIDDEN_UNITS
    combiner: Combiner = Combiner.SUM
    sources: str = field(default="", compare=False)

    def to_yaml(self) -> str:
        """Text of ``network.yaml``, without the files of a data set."""
        sections = self.spec.to_dict()
        del sections["source_spec"]
        values: tuple[Any, ...] = (
            list(self.hidden_units),
            str(self.combiner),
            dict(self.embedding_widths),
            sections,
        )
        return yaml.safe_dump(dict(zip(_KEYS, values, strict=True)), sort_keys=False)


def load_network_description(path: Path) -> NetworkDescription:
    """Reads a ``network.yaml``. Raises DataError, ``FILE:LINE: reason``, if it can't be used."""
    document = load_yaml(path)
    entries = document.entries("network")
    document.check_keys("network", _KEYS)
    for key in _KEYS:
        if key not in entries:
            raise document.error(f"the description of the network lacks {key}: train the checkpoint again, or add it")
    spec = parse_feature_spec(entries["feature_spec"])
    units = entries["deep_hidden_units"].items("deep_hidden_units")
    return NetworkDescription(
        spec,
        parse_embedding_sizes(entries["embedding_sizes"], spec),
        tuple(item.count("the units of a layer", _MOST_UNITS) for item in units),
        _combiner(entries["combiner"]),
    )


def describe_network(
    options: NetworkOptions, *, checkpoint_dir: Path | None = None, dataset: DatasetFolder | None = None
) -> NetworkDescription:
    """Description of the network for a command line. Options that are not given come from the checkpoint, else from the
    data set, else from the original. Raises DataError for a wrong file."""
    stored_path = None if checkpoint_dir is None else checkpoint_dir / DESCRIPTION_NAME
    stored = load_network_description(stored_path) if stored_path is not None and stored_path.is_file() else None
    own_spec = None if dataset is None else dataset.spec_path
    own_sizes = None if dataset is None else dataset.sizes_path

    spec_source: object = options.feature_spec or (stored and stored_path) or own_spec or "Outbrain's"
    if stored is not None and options.feature_spec is None:
        spec = stored.spec
    else:
        spec = read_feature_spec(options.feature_spec or own_spec)

    sizes_source: object = options.embedding_sizes or (stored and stored_path) or own_sizes or "the defaults"
    if stored is not None and options.embedding_sizes is None:
        widths = load_embedding_sizes(None, spec)
        widths |= {name: width for name, width in stored.embedding_widths.items() if name in widths}
    else:
        # A data set's widths may include features that another specification leaves out.
        path = options.embedding_sizes or own_sizes
        widths = load_embedding_sizes(path, spec, others=options.embedding_sizes is None)
    return NetworkDescription(
        spec,
        widths,
        tuple(options.deep_hidden_units or (stored.hidden_units if stored else HIDDEN_UNITS)),
        options.combiner or (stored.combiner if stored else Combiner.SUM),
        f"feature specification: {spec_source}; embedding sizes: {sizes_source}",
    )


def _combiner(entry: Located) -> Combiner:
    known = {str(combiner): combiner for combiner in Combiner}
    if entry.value not in known:
        raise entry.error(f"combiner is {entry.shown}: write one of {', '.join(known)}")
    return known[entry.value]
