"""The Outbrain features with tables that fit a test."""

from __future__ import annotations

import dataclasses

from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec


def small_outbrain_spec(largest: int) -> FeatureSpec:
    """Outbrain specification with no cardinality above ``largest``."""

    def cut(features: tuple[Feature, ...]) -> tuple[Feature, ...]:
        return tuple(dataclasses.replace(item, cardinality=min(item.cardinality or 0, largest)) for item in features)

    spec = outbrain_spec()
    return dataclasses.replace(spec, onehot=cut(spec.onehot), multihot=cut(spec.multihot))
