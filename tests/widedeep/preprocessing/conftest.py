"""Small raw tables, and what the project reads of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from widedeep.preprocessing.joined_clicks import join_clicks
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, PROMOTED, check_files
from widedeep.synthetic import SyntheticOptions, generate

Rows = dict[str, list[object]]
Join = Callable[[Path], Rows]


@pytest.fixture(scope="session")
def few_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Raw tables of 60 displays, with only the ads and documents that they need; not to be changed."""
    folder = tmp_path_factory.mktemp("few") / "raw"
    generate(SyntheticOptions(folder, 60, seed=3))
    clicks, events, ads, meta = (
        pd.read_csv(folder / name, dtype=str, keep_default_na=False) for name in (CLICKS, EVENTS, PROMOTED, META)
    )
    events.loc[::7, "platform"] = "\\N"
    ads = ads[ads.ad_id.isin(clicks.ad_id)]
    meta = meta[meta.document_id.isin([*events.document_id, *ads.document_id])]
    for name, table in ((EVENTS, events), (PROMOTED, ads), (META, meta)):
        table.to_csv(folder / name, index=False)
    return folder


@pytest.fixture
def raw(few_raw: Path, tmp_path: Path) -> Path:
    """A copy of these tables, to be changed."""
    return Path(shutil.copytree(few_raw, tmp_path / "raw"))


@pytest.fixture
def join(tmp_path_factory: pytest.TempPathFactory) -> Join:
    """Reads the tables as both commands do: the joined training rows, as lists by column."""

    def joined(raw_dir: Path) -> Rows:
        check_files(raw_dir)
        folder = tmp_path_factory.mktemp("joined")
        rows: Rows = pq.read_table(folder / join_clicks(raw_dir, folder)["train"][0].path).to_pydict()
        return {name: [repr(value) for value in values] for name, values in rows.items()}  # NaN equals itself

    return joined
