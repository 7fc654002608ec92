"""The feature specification: which columns a dataset has, what they mean to the network, and where the files are.

The YAML has four sections: ``feature_spec`` (per feature ``cardinality``, ``max_hotness``, ``dtype``), ``source_spec``
(per mapping a list of chunks with ``type``, ``features`` and ``files``), ``channel_spec`` (``numerical``,
``onehot_categorical``, ``multihot_categorical``, ``label``, ``map``) and ``metadata``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.core import ModelSpec, TensorSpec, ValueRange
from deployment_toolkit.errors import DataError

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
    try:
        plain = yaml.safe_load(path.read_text())
    except OSError as error:
        raise DataError(f"feature specification {path} can't be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise DataError(f"feature specification {path} is not YAML: {error}") from error
    if not isinstance(plain, dict) or not {"feature_spec", "channel_spec"} <= plain.keys():
        raise DataError(f"feature specification {path} lacks its sections feature_spec and channel_spec")
    features = {
        name: Feature(
            name=name,
            dtype=str(entry.get("dtype", "float32")),
            cardinality=entry.get("cardinality"),
            max_hotness=entry.get("max_hotness"),
        )
        for name, entry in ((name, entry or {}) for name, entry in plain["feature_spec"].items())
    }
    channels: dict[str, tuple[Feature, ...]] = {}
    for channel in ("numerical", "onehot_categorical", "multihot_categorical", "label", "map"):
        names = plain["channel_spec"].get(channel) or []
        unknown = [name for name in names if name not in features]
        if unknown:
            raise DataError(f"{path}: channel {channel} names {unknown}, which feature_spec does not define")
        channels[channel] = tuple(features[name] for name in names)
    for channel in ("label", "map"):
        if len(channels[channel]) != 1:
            raise DataError(f"{path}: channel {channel} must name one feature, it names {len(channels[channel])}")
    for channel in ("onehot_categorical", "multihot_categorical"):
        for feature in channels[channel]:
            if not isinstance(feature.cardinality, int) or feature.cardinality < 1:
                raise DataError(f"{path}: {channel} feature {feature.name} needs a cardinality of at least 1")
    for feature in channels["multihot_categorical"]:
        if not isinstance(feature.max_hotness, int) or feature.max_hotness < 1:
            raise DataError(f"{path}: multi-hot feature {feature.name} needs a max_hotness of at least 1")
    return FeatureSpec(
        numerical=channels["numerical"],
        onehot=channels["onehot_categorical"],
        multihot=channels["multihot_categorical"],
        label=channels["label"][0],
        group_id=channels["map"][0],
        files=_files(plain.get("source_spec") or {}),
    )


def _files(source_spec: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    return {
        mapping: tuple(pattern for chunk in chunks for pattern in chunk["files"])
        for mapping, chunks in source_spec.items()
    }


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
