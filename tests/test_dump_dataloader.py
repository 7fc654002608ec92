"""The plug-in that reads the rows of a dump."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, DataloaderModule, Prediction
from deployment_toolkit.errors import DataError
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter

READER = load_module(ROOT / "dump_dataloader.py", DataloaderModule)


def write_dump(path: Path, *, inputs: bool) -> Batch:
    """A dump of seven rows; gives them."""
    ids = np.arange(7, dtype=np.int64) + 2**40
    x = {"ad": np.arange(14, dtype=np.int32).reshape(7, 2), "hour": np.linspace(0, 1, 7, dtype=np.float32)[:, None]}
    batch = Batch(ids, x, {"clicked": np.ones((7, 1), np.float32)})
    with DumpWriter(DumpOptions(path, dump_labels=True, dump_inputs=inputs)) as dump:
        dump.write(Prediction(batch, {"wide_deep_model": np.full((7, 1), 0.5, np.float32)}))
    return batch


def test_rows_of_a_dump_come_back_as_they_were(tmp_path: Path) -> None:
    batch = write_dump(tmp_path / "rows", inputs=True)
    stream = READER.get_dataloader_fn(rows_dir=tmp_path / "rows", batch_size=3)
    assert stream.num_rows == 7
    for _ in range(2):  # each call starts anew
        ids, x, y = zip(*stream(), strict=True)
        assert [len(part) for part in ids] == [3, 3, 1]
        np.testing.assert_array_equal(np.concatenate(ids), batch.ids)
        for name, values in batch.x.items():
            found = np.concatenate([part[name] for part in x])
            np.testing.assert_array_equal(found, values)
            assert found.dtype == values.dtype
        np.testing.assert_array_equal(np.concatenate([part["clicked"] for part in y]), batch.y["clicked"])


def test_dump_without_inputs_is_refused(tmp_path: Path) -> None:
    write_dump(tmp_path / "rows", inputs=False)
    with pytest.raises(DataError, match="has no inputs, so its rows can't be sent again: make it with --dump-inputs"):
        READER.get_dataloader_fn(rows_dir=tmp_path / "rows")
