"""Workflows saved before modules moved still load: their pickles name the former modules."""

from __future__ import annotations

import pickle

import pytest


@pytest.mark.parametrize(
    ("module", "name"),
    [
        *(("nvt_operators", name) for name in ("ClickRates", "DaysSincePublished", "DocumentLikeness")),
        *(("nvt_operators", name) for name in ("HashBuckets", "TagLists")),
        *(("documents", name) for name in ("DocumentTags", "IdIndex", "LookupTable")),
    ],
)
def test_former_module_of_a_saved_workflow_gives_the_current_class(module: str, name: str) -> None:
    found = pickle.loads(f"cwidedeep.{module}\n{name}\n.".encode())
    assert (found.__module__, found.__name__) == (f"widedeep.preprocessing.{module}", name)
