"""Former name of ``widedeep.preprocessing.documents``, kept for workflows that were saved before December 2026."""

from __future__ import annotations

from widedeep.preprocessing.documents import DocumentTags, IdIndex, LookupTable

__all__ = ["DocumentTags", "IdIndex", "LookupTable"]
