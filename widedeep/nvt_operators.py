"""The former place of ``widedeep.preprocessing.nvt_operators``, which workflows saved before December 2026 name."""

from __future__ import annotations

from widedeep.preprocessing.nvt_operators import ClickRates, DaysSincePublished, DocumentLikeness, HashBuckets, TagLists

__all__ = ["ClickRates", "DaysSincePublished", "DocumentLikeness", "HashBuckets", "TagLists"]
