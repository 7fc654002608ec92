"""Feature specification of a dataset: its columns, their use in the network, and the paths of its files.

The YAML has four sections: ``feature_spec`` (per feature ``cardinality``, ``max_hotness``, ``dtype``), ``source_spec``
(per mapping a list of chunks with ``type``, ``features`` and ``files``), ``channel_spec`` (``numerical``,
``onehot_categorical``, ``multihot_categorical``, ``label``, ``map``) and ``metadata``. It is the format of NVIDIA
DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep; docs/bring-your-own-data.md explains it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from deployment_toolkit.core import ModelSpec, TensorSpec, ValueRange
from deployment_toolkit.options.located_yaml import Located, load_yaml, nearest
from widedeep.features.source_spec import read_source_spec

# Dtype of a feature without ``dtype``, by channel.
_DEFAULT_DTYPES = {
    "numerical": "float32",
    "onehot_categorical": "int32",
    "multihot_categorical": "int32",
    "label": "float32",
    "map": "int64",
}
_CATEGORICAL = ("onehot_categorical", "multihot_categorical")
_INPUTS = ("numerical", *_CATEGORICAL)
_SECTIONS = ("feature_spec", "source_spec", "channel_spec", "metadata")
_FEATURE_KEYS = ("dtype", "cardinality", "max_hotness")
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]*")  # a SavedModel renames other names
_MOST_HOTNESS = 1_000_000

PADDING_ID = -1
OUTPUT_NAME = "wide_deep_model"
# Names that can't be those of inputs, and what they are.
_TAKEN = {
    "numeric": "the weights of all numbers in checkpoints",
    OUTPUT_NAME: "the network's output",
    "self": "a parameter of TensorFlow's functions, which take the inputs beside it",
}


@dataclass(frozen=True)
class Feature:
    """A column. ``cardinality`` is None for numbers; only multi-hot features have ``max_hotness``. ``where`` is the
    file and line of its definition, if it has one."""

    name: str
    dtype: str
    cardinality: int | None = None
    max_hotness: int | None = None
    where: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True)
class FeatureSpec:
    """Columns by channel, in the order of the specification. Without a group id every row is a separate
    group. ``files`` gives the file patterns per mapping (``train``, ``test``), relative to the folder of the YAML."""

    numerical: tuple[Feature, ...]
    onehot: tuple[Feature, ...]
    multihot: tuple[Feature, ...]
    label: Feature
    group_id: Feature | None
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Inputs of the network, sorted by name."""
        return tuple(sorted((*self.numerical, *self.onehot, *self.multihot), key=lambda feature: feature.name))

    @property
    def columns(self) -> tuple[Feature, ...]:
        """All columns of a parquet file: inputs, label and group id, if there is one."""
        return (*self.inputs, self.label, *self._group_ids)

    @property
    def for_training(self) -> FeatureSpec:
        """The same specification without group id, which training files may lack."""
        return replace(self, group_id=None)

    @property
    def cardinalities(self) -> dict[str, int]:
        """Number of ids of every categorical input."""
        return {feature.name: _ids(feature) for feature in (*self.onehot, *self.multihot)}

    @property
    def value_ranges(self) -> dict[str, ValueRange]:
        """Lowest and highest id of every categorical input; the lowest id of a multi-hot input is its padding, -1."""
        onehot = {feature.name: (0, _ids(feature) - 1) for feature in self.onehot}
        return onehot | {feature.name: (PADDING_ID, _ids(feature) - 1) for feature in self.multihot}

    @property
    def model_spec(self) -> ModelSpec:
        """Signature of a network over these features: ``[B, 1]`` or ``[B, max_hotness]`` per input, and one
        probability."""
        ranges = self.value_ranges
        inputs = tuple(
            TensorSpec(feature.name, feature.dtype, (feature.max_hotness or 1,), ranges.get(feature.name))
            for feature in self.inputs
        )
        return ModelSpec(inputs, (TensorSpec(OUTPUT_NAME, "float32", (1,)),))

    def to_yaml(self) -> str:
        """Text of the specification's file."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def to_dict(self) -> dict[str, Any]:
        """Sections of the specification's file."""
        channels = {
            "numerical": [feature.name for feature in self.numerical],
            "onehot_categorical": [feature.name for feature in self.onehot],
            "multihot_categorical": [feature.name for feature in self.multihot],
            "label": [self.label.name],
            "map": [feature.name for feature in self._group_ids],
        }
        names = [feature.name for feature in self.columns]
        return {
            "feature_spec": {feature.name: _feature_to_dict(feature) for feature in self.columns},
            "source_spec": {
                mapping: [{"type": "parquet", "features": names, "files": list(patterns)}]
                for mapping, patterns in self.files.items()
            },
            "channel_spec": channels,
            "metadata": {},
        }

    @property
    def _group_ids(self) -> tuple[Feature, ...]:
        return () if self.group_id is None else (self.group_id,)


def load_feature_spec(path: Path) -> FeatureSpec:
    """Reads a specification. Raises DataError, ``FILE:LINE: reason, what to do``, if it contradicts itself."""
    return parse_feature_spec(load_yaml(path))


def parse_feature_spec(document: Located) -> FeatureSpec:
    """Parses a specification. Raises DataError as ``load_feature_spec`` does."""
    document.check_keys("feature specification", _SECTIONS)
    sections = document.entries("feature specification")
    for name in ("feature_spec", "channel_spec"):
        if name not in sections or sections[name].value is None:
            raise sections.get(name, document).error(f"the feature specification lacks its section {name}, add it")
    entries = sections["feature_spec"].entries("feature_spec")
    channels = _read_channels(sections["channel_spec"], entries)
    features = {
        channel: tuple(_feature(channel, name, entries[name]) for name in names) for channel, names in channels.items()
    }
    group_id = features["map"][0] if features["map"] else None
    needed = [feature.name for channel in (*_INPUTS, "label") for feature in features[channel]]
    files: dict[str, tuple[str, ...]] = {}
    if "source_spec" in sections:
        group_name = None if group_id is None else group_id.name
        files = read_source_spec(sections["source_spec"], entries, needed, group_name)
    return FeatureSpec(
        numerical=features["numerical"],
        onehot=features["onehot_categorical"],
        multihot=features["multihot_categorical"],
        label=features["label"][0],
        group_id=group_id,
        files=files,
    )


def _read_channels(section: Located, entries: Mapping[str, Located]) -> dict[str, list[str]]:
    """Reads the names of the features by channel; each name is in one channel only."""
    section.check_keys("channel_spec", _DEFAULT_DTYPES)
    given = section.entries("channel_spec")
    channels: dict[str, list[str]] = {}
    first: dict[str, tuple[str, int]] = {}
    inputs: dict[str, str] = {}
    for channel in _DEFAULT_DTYPES:
        items = given[channel].items(f"channel {channel}") if channel in given else []
        for item in items:
            name = item.text(f"channel {channel}: a feature")
            if name not in entries:
                raise item.error(
                    f"channel {channel} names {name}, which feature_spec does not define{nearest(name, entries)}"
                )
            if name in first:
                other, line = first[name]
                raise item.error(
                    f"{name} is in channel {channel}, and in {other} (line {line}): a feature belongs to one"
                )
            first[name] = channel, item.line
            if channel in _INPUTS:
                _check_input_name(name, item)
                other = inputs.setdefault(name.lower(), name)
                if other != name:
                    raise item.error(f"{name} and {other} differ in nothing but case, a SavedModel can't: rename one")
        channels[channel] = [item.value for item in items]
    if len(channels["label"]) != 1:
        raise given.get("label", section).error(
            f"channel label must name one feature, it names {len(channels['label'])}"
        )
    if len(channels["map"]) > 1:
        raise given["map"].error(f"channel map may name one feature, the group id, it names {len(channels['map'])}")
    if not any(channels[channel] for channel in _INPUTS):
        raise section.error(f"the channels {', '.join(_INPUTS)} are all empty: name the inputs of the network")
    return channels


def _check_input_name(name: str, item: Located) -> None:
    if not _NAME.fullmatch(name):
        raise item.error(
            f"{name!r} can't be the name of an input (a letter, then letters, digits or underscores): rename the column"
        )
    by = "a word of Python, which TensorFlow's functions can't take" if iskeyword(name) else _TAKEN.get(name)
    if by is not None:
        raise item.error(f"the name {name} is taken, it is {by}: rename the column")


def _feature(channel: str, name: str, entry: Located) -> Feature:
    what = f"{channel} feature {name}"
    entry.check_keys(what, _FEATURE_KEYS)
    keys = entry.entries(what)
    allowed = ("int32", "int64") if channel in (*_CATEGORICAL, "map") else ("float32", "float64", "int32", "int64")
    dtype = _DEFAULT_DTYPES[channel]
    if "dtype" in keys:
        if keys["dtype"].value not in allowed:
            raise keys["dtype"].error(f"{what} is of dtype {keys['dtype'].shown}: write one of {', '.join(allowed)}")
        dtype = keys["dtype"].value
    cardinality = _count(what, "cardinality", entry, keys, required=channel in _CATEGORICAL)
    if cardinality is not None and cardinality - 1 > (limit := np.iinfo(dtype).max):
        raise keys["cardinality"].error(f"{what}: ids below {cardinality} don't fit {dtype}, which ends at {limit}")
    hotness = None
    multihot = channel == "multihot_categorical"
    if multihot or ("max_hotness" in keys and keys["max_hotness"].value != 1):
        hotness = _count(what, "max_hotness", entry, keys, required=multihot)
    return Feature(name, dtype, cardinality, hotness, entry.where)


def _count(what: str, key: str, entry: Located, keys: Mapping[str, Located], *, required: bool) -> int | None:
    if required and key not in keys:
        raise entry.error(f"{what} needs a {key} of at least 1, add it")
    if not required and key in keys:
        raise keys[key].error(f"{what} has a {key}, which its channel doesn't have: drop it or move the feature")
    most = _MOST_HOTNESS if key == "max_hotness" else sys.maxsize  # the limit of ids is that of their dtype
    return keys[key].count(f"{key} of {what}", most) if required else None


def _ids(feature: Feature) -> int:
    assert feature.cardinality is not None
    return feature.cardinality


def _feature_to_dict(feature: Feature) -> dict[str, Any]:
    plain: dict[str, Any] = {"dtype": feature.dtype}
    if feature.cardinality is not None:
        plain["cardinality"] = feature.cardinality
    if feature.max_hotness is not None:
        plain["max_hotness"] = feature.max_hotness
    return plain
