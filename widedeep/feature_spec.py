"""The feature specification: which columns a dataset has, what they mean to the network, and where the files are.

The YAML has four sections: ``feature_spec`` (per feature ``cardinality``, ``max_hotness``, ``dtype``), ``source_spec``
(per mapping a list of chunks with ``type``, ``features`` and ``files``), ``channel_spec`` (``numerical``,
``onehot_categorical``, ``multihot_categorical``, ``label``, ``map``) and ``metadata``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import ModelSpec, TensorSpec, ValueRange
from deployment_toolkit.errors import DataError

# What a feature is read as where its ``dtype`` is left out, by channel.
_DEFAULT_DTYPES = {
    "numerical": "float32",
    "onehot_categorical": "int32",
    "multihot_categorical": "int32",
    "label": "float32",
    "map": "int64",
}
_CATEGORICAL = ("onehot_categorical", "multihot_categorical")
_INPUTS = ("numerical", *_CATEGORICAL)

PADDING_ID = -1
OUTPUT_NAME = "wide_deep_model"


@dataclass(frozen=True)
class Feature:
    """A column. ``cardinality`` is None for numbers; ``max_hotness`` is None but for multi-hot features."""

    name: str
    dtype: str
    cardinality: int | None = None
    max_hotness: int | None = None


@dataclass(frozen=True)
class FeatureSpec:
    """Columns by channel, in the order of the specification. ``files`` gives the file patterns per mapping
    (``train``, ``valid``), relative to the folder of the YAML."""

    numerical: tuple[Feature, ...]
    onehot: tuple[Feature, ...]
    multihot: tuple[Feature, ...]
    label: Feature
    group_id: Feature
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """Inputs of the network, sorted by name."""
        return tuple(sorted((*self.numerical, *self.onehot, *self.multihot), key=lambda feature: feature.name))

    @property
    def columns(self) -> tuple[Feature, ...]:
        """Every column of a parquet file: inputs, label and group id."""
        return (*self.inputs, self.label, self.group_id)

    @property
    def cardinalities(self) -> dict[str, int]:
        """Number of ids of every categorical input."""
        return {feature.name: _ids(feature) for feature in (*self.onehot, *self.multihot)}

    @property
    def value_ranges(self) -> dict[str, ValueRange]:
        """Lowest and highest id of every categorical input; a multi-hot one may also hold the padding."""
        onehot = {feature.name: (0, _ids(feature) - 1) for feature in self.onehot}
        return onehot | {feature.name: (PADDING_ID, _ids(feature) - 1) for feature in self.multihot}

    @property
    def model_spec(self) -> ModelSpec:
        """The signature of a network over these features: ``[B, 1]`` or ``[B, max_hotness]`` per input, and one
        probability."""
        ranges = self.value_ranges
        inputs = tuple(
            TensorSpec(feature.name, feature.dtype, (feature.max_hotness or 1,), ranges.get(feature.name))
            for feature in self.inputs
        )
        return ModelSpec(inputs, (TensorSpec(OUTPUT_NAME, "float32", (1,)),))

    def to_yaml(self) -> str:
        """The specification as the text of its file."""
        channels = {
            "numerical": [feature.name for feature in self.numerical],
            "onehot_categorical": [feature.name for feature in self.onehot],
            "multihot_categorical": [feature.name for feature in self.multihot],
            "label": [self.label.name],
            "map": [self.group_id.name],
        }
        names = [feature.name for feature in self.columns]
        plain = {
            "feature_spec": {feature.name: _feature_to_dict(feature) for feature in self.columns},
            "source_spec": {
                mapping: [{"type": "parquet", "features": names, "files": list(patterns)}]
                for mapping, patterns in self.files.items()
            },
            "channel_spec": channels,
            "metadata": {},
        }
        return yaml.safe_dump(plain, sort_keys=False)


def load_feature_spec(path: Path) -> FeatureSpec:
    """Reads a specification. Raises DataError, naming the file and the key, if it contradicts itself."""
    plain = _read_sections(path)
    try:
        channels = {
            channel: tuple(_feature(channel, name, plain["feature_spec"]) for name in _names(channel, plain))
            for channel in _DEFAULT_DTYPES
        }
        for channel in ("label", "map"):
            if len(channels[channel]) != 1:
                raise DataError(f"channel {channel} must name one feature, it names {len(channels[channel])}")
        used = Counter(feature.name for channel in _INPUTS for feature in channels[channel])
        if not used:
            raise DataError(f"the channels {', '.join(_INPUTS)} are all empty: name the inputs of the network")
        twice = [name for name, count in used.items() if count > 1]
        if twice:
            raise DataError(f"{', '.join(twice)}: named twice in the channels, an input belongs to one")
        files = _files(plain.get("source_spec") or {})
    except DataError as error:
        raise DataError(f"feature specification {path}: {error}") from None
    return FeatureSpec(
        numerical=channels["numerical"],
        onehot=channels["onehot_categorical"],
        multihot=channels["multihot_categorical"],
        label=channels["label"][0],
        group_id=channels["map"][0],
        files=files,
    )


def _read_sections(path: Path) -> dict[str, Any]:
    try:
        plain = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"feature specification {path} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise DataError(f"feature specification {path} is not YAML: {error}") from error
    for section in ("feature_spec", "channel_spec"):
        if not isinstance(plain, dict) or not isinstance(plain.get(section), dict):
            raise DataError(f"feature specification {path} lacks its section {section}, with an entry per name")
    sections: dict[str, Any] = plain
    return sections


def _names(channel: str, plain: Mapping[str, Any]) -> list[str]:
    names = plain["channel_spec"].get(channel) or []
    if not isinstance(names, list):
        raise DataError(f"channel {channel} must be a list of features, not {names!r}")
    unknown = [name for name in names if name not in plain["feature_spec"]]
    if unknown:
        raise DataError(f"channel {channel} names {unknown}, which feature_spec does not define")
    return names


def _feature(channel: str, name: str, entries: Mapping[str, Any]) -> Feature:
    entry = entries[name] or {}
    if not isinstance(entry, dict):
        raise DataError(f"feature {name} must have keys as cardinality, max_hotness and dtype, not {entry!r}")
    dtype = str(entry.get("dtype") or _DEFAULT_DTYPES[channel])
    allowed = ("int32", "int64") if channel in (*_CATEGORICAL, "map") else ("float32", "float64", "int32", "int64")
    if dtype not in allowed:
        raise DataError(f"{channel} feature {name} is of dtype {dtype}: write one of {', '.join(allowed)}")
    cardinality = _positive(channel, name, "cardinality", entry) if channel in _CATEGORICAL else None
    max_hotness = _positive(channel, name, "max_hotness", entry) if channel == "multihot_categorical" else None
    return Feature(name, dtype, cardinality, max_hotness)


def _positive(channel: str, name: str, key: str, entry: Mapping[str, Any]) -> int:
    value = entry.get(key)
    if not isinstance(value, int) or value < 1:
        raise DataError(f"{channel} feature {name} needs a {key} of at least 1, not {value}")
    return value


def _files(source_spec: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    try:
        return {
            mapping: tuple(str(pattern) for chunk in chunks for pattern in chunk["files"])
            for mapping, chunks in source_spec.items()
        }
    except (AttributeError, KeyError, TypeError):
        raise DataError("source_spec must map names as train to a list of chunks with files") from None


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
