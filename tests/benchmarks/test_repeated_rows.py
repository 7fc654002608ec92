from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.repeated_rows import write_repeated
from widedeep.features.outbrain import outbrain_spec


def test_repeated_rows_get_new_group_ids(tmp_path: Path, write_parquet: Callable[..., Path]) -> None:
    source = write_parquet(tmp_path / "a.parquet", 100)
    repeated = pq.read_table(write_repeated(source, tmp_path / "b.parquet", 250, outbrain_spec()))
    once = pq.read_table(source)
    assert repeated.num_rows == 250
    assert repeated.schema == once.schema
    assert repeated["ad_id"].to_pylist() == (once["ad_id"].to_pylist() * 3)[:250]
    assert repeated["topic_id_list"].to_pylist() == (once["topic_id_list"].to_pylist() * 3)[:250]
    groups = repeated["display_id"].to_pylist()
    assert len(set(groups)) == 50  # five rows each, as in the source
    assert groups == sorted(groups)
