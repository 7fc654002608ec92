"""NVTabular graph from joined clicks to the features of the network."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import nvtabular as nvt
from nvtabular.ops import FillMissing, LogOp

from widedeep.features.outbrain import GROUP_ID, LABEL, ONEHOT
from widedeep.preprocessing.documents import DocumentTags
from widedeep.preprocessing.fitted.operators import ClickRates, FillExactMedian, NormalizeExactly
from widedeep.preprocessing.fitted.tables import Tables
from widedeep.preprocessing.nvt_operators import (
    BoundedIds,
    DaysSincePublished,
    DocumentLikeness,
    HashBuckets,
    PlaceParts,
    TagLists,
)
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
PUBLISHED = ["publish_time", "publish_time_promo"]


def make_workflow(tags: Mapping[str, DocumentTags], cardinalities: Mapping[str, int], tables: Tables) -> nvt.Workflow:
    """Makes an unfitted workflow over the columns of ``joined_clicks``; ``tags`` has the three kinds of ``TAG_LISTS``,
    ``cardinalities`` the number of ids of every one-hot feature, ``tables`` gets the click statistics.

    Its output has every column of the feature specification. Fitting needs the label; to transform rows without a
    label, call ``remove_inputs(["clicked"])`` first.
    """
    rates = list(CTR_THRESHOLDS) >> ClickRates(CTR_THRESHOLDS, tables)
    ages = PUBLISHED >> DaysSincePublished() >> FillExactMedian() >> FillMissing(0.0) >> LogOp()
    places = ["geo_location"] >> PlaceParts()
    hashed = [name for name in ONEHOT if name != "platform" and not name.startswith("geo_location_")]
    buckets = {name: cardinalities[name] for name in ONEHOT if name != "platform"}
    onehot = hashed + places >> HashBuckets(buckets)
    # three values in four buckets: hashing would put two platforms into one bucket
    platform = ["platform"] >> BoundedIds(cardinalities["platform"])
    likeness = ["document_id", "document_id_promo"] >> DocumentLikeness(tags)
    lists = ["document_id"] >> TagLists({TAG_LISTS[kind]: table for kind, table in tags.items()})
    return nvt.Workflow(
        ages
        + rates[[f"{name}_ctr" for name in CTR_THRESHOLDS]]
        + (rates[COUNTS] >> LogOp() >> NormalizeExactly(out_dtype=np.float32))
        + onehot
        + platform
        + likeness
        + lists
        + [LABEL, GROUP_ID]
    )
