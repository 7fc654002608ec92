"""Outbrain's schema: features of the preprocessed click data with their cardinalities and embedding widths.

Source: NVIDIA DeepLearningExamples, TensorFlow2/Recommendation/WideAndDeep.
"""

from __future__ import annotations

import re

from widedeep.features.spec import Feature, FeatureSpec

LABEL = "clicked"
GROUP_ID = "display_id"

NUMERICAL = (
    "document_id_document_id_promo_sim_categories",
    "document_id_document_id_promo_sim_topics",
    "document_id_document_id_promo_sim_entities",
    "document_id_promo_ctr",
    "publisher_id_promo_ctr",
    "source_id_promo_ctr",
    "document_id_promo_count",
    "publish_time_days_since_published",
    "ad_id_ctr",
    "advertiser_id_ctr",
    "campaign_id_ctr",
    "ad_id_count",
    "publish_time_promo_days_since_published",
)

# feature: (cardinality, embedding width)
ONEHOT = {
    "ad_id": (250_000, 128),
    "document_id": (300_000, 128),
    "platform": (4, 19),
    "document_id_promo": (100_000, 128),
    "campaign_id": (5_000, 128),
    "advertiser_id": (2_500, 64),
    "source_id": (4_000, 64),
    "geo_location": (2_500, 64),
    "geo_location_country": (300, 64),
    "geo_location_state": (2_000, 64),
    "publisher_id": (1_000, 64),
    "source_id_promo": (4_000, 64),
    "publisher_id_promo": (1_000, 64),
}

# feature: (cardinality, embedding width, max hotness)
MULTIHOT = {
    "topic_id_list": (350, 64, 3),
    "entity_id_list": (10_000, 64, 3),
    "category_id_list": (100, 64, 3),
}

DEFAULT_WIDTH = 64


_ORIGINS = (
    (r".*_sim_(categories|topics|entities)", "documents_{}.csv"),
    (r"category_id_list", "documents_categories.csv"),
    (r"topic_id_list", "documents_topics.csv"),
    (r"entity_id_list", "documents_entities.csv"),
    (r"publish_time.*", "publish_time of documents_meta.csv or timestamp of events.csv"),
    (r"(source_id|publisher_id).*", "documents_meta.csv"),
    (r"(campaign_id|advertiser_id|document_id_promo).*", "promoted_content.csv"),
    (r"document_id|platform|geo_location.*", "events.csv"),
)


def raw_origin(feature: str) -> str:
    """Which of Outbrain's raw files a feature is made of."""
    for pattern, origin in _ORIGINS:
        if found := re.fullmatch(pattern, feature):
            return origin.format(*found.groups())
    return "clicks_train.csv"


def embedding_widths(spec: FeatureSpec) -> dict[str, int]:
    """Embedding width of every categorical feature: Outbrain's, or ``DEFAULT_WIDTH`` for other features."""
    known = {name: width for name, (_, width, *_) in (ONEHOT | MULTIHOT).items()}
    return {feature.name: known.get(feature.name, DEFAULT_WIDTH) for feature in (*spec.onehot, *spec.multihot)}


def outbrain_spec(files: dict[str, tuple[str, ...]] | None = None) -> FeatureSpec:
    """Feature specification of the preprocessed Outbrain data."""
    return FeatureSpec(
        numerical=tuple(Feature(name, "float32") for name in NUMERICAL),
        onehot=tuple(Feature(name, "int32", size) for name, (size, _) in ONEHOT.items()),
        multihot=tuple(Feature(name, "int32", size, hotness) for name, (size, _, hotness) in MULTIHOT.items()),
        label=Feature(LABEL, "int32"),
        group_id=Feature(GROUP_ID, "int64"),
        files=files or {},
    )
