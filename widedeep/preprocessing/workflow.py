"""NVTabular graph from joined clicks to the features of the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import nvtabular as nvt
from nvtabular.ops import FillMedian, FillMissing, LambdaOp, LogOp, Normalize, Rename

from widedeep.features.outbrain import GROUP_ID, LABEL, ONEHOT
from widedeep.preprocessing.documents import DocumentTags
from widedeep.preprocessing.nvt_operators import ClickRates, DaysSincePublished, DocumentLikeness, HashBuckets, TagLists
from widedeep.preprocessing.raw_csv import TAG_LISTS

# A value with fewer rows than this has the rate 0.
CTR_THRESHOLDS = {
    "ad_id": 5,
    "source_id_promo": 10,
    "publisher_id_promo": 10,
    "advertiser_id": 10,
    "campaign_id": 10,
    "document_id_promo": 5,
}
COUNTS = ["ad_id_count", "document_id_promo_count"]


def make_workflow(tags: Mapping[str, DocumentTags], cardinalities: Mapping[str, int]) -> nvt.Workflow:
    """Makes an unfitted workflow over the columns of ``joined_clicks``; ``tags`` has the three kinds of ``TAG_LISTS``,
    ``cardinalities`` the number of ids of every one-hot feature.

    Its output has every column of the feature specification. Fitting needs the label; to transform rows without a
    label, call ``remove_inputs(["clicked"])`` first.
    """
    rates = list(CTR_THRESHOLDS) >> ClickRates(CTR_THRESHOLDS)
    ages = ["publish_time", "publish_time_promo"] >> DaysSincePublished() >> FillMedian() >> FillMissing(0.0) >> LogOp()
    geo = ["geo_location"]
    country = geo >> LambdaOp(_country) >> Rename(postfix="_country")
    state = geo >> LambdaOp(_state) >> Rename(postfix="_state")
    hashed = [name for name in ONEHOT if name != "platform" and not name.startswith("geo_location_")]
    buckets = {name: cardinalities[name] for name in ONEHOT if name != "platform"}
    onehot = hashed + country + state >> HashBuckets(buckets)
    # three values in four buckets: hashing would put two platforms into one bucket
    last_platform = cardinalities["platform"] - 1
    platform = ["platform"] >> LambdaOp(lambda column: column.clip(0, last_platform).astype("int32"), dtype=np.int32)
    likeness = ["document_id", "document_id_promo"] >> DocumentLikeness(tags)
    lists = ["document_id"] >> TagLists({TAG_LISTS[kind]: table for kind, table in tags.items()})
    return nvt.Workflow(
        ages
        + rates[[f"{name}_ctr" for name in CTR_THRESHOLDS]]
        + (rates[COUNTS] >> LogOp() >> Normalize(out_dtype=np.float32))
        + onehot
        + platform
        + likeness
        + lists
        + [LABEL, GROUP_ID]
    )


def _country(column, frame=None):  # type: ignore[no-untyped-def]
    """Country part of a place: ``US`` of ``US>CA>807``."""
    return column.str.slice(0, 2)


def _state(column, frame=None):  # type: ignore[no-untyped-def]
    """Country and state part of a place: ``US>CA`` of ``US>CA>807``."""
    return column.str.slice(0, 5)
