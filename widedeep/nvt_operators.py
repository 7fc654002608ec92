"""Former name of ``widedeep.preprocessing.nvt_operators``, kept for workflows that were saved before December 2026."""

from __future__ import annotations

from widedeep.preprocessing.nvt_operators import ClickRates, DaysSincePublished, DocumentLikeness, HashBuckets, TagLists

__all__ = ["ClickRates", "DaysSincePublished", "DocumentLikeness", "HashBuckets", "TagLists"]
