"""The former place of ``widedeep.preprocessing.documents``, which workflows saved before December 2026 name."""

from __future__ import annotations

from widedeep.preprocessing.documents import DocumentTags, IdIndex, LookupTable

__all__ = ["DocumentTags", "IdIndex", "LookupTable"]
