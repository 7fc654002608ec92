"""Arrays in npy files are those of NumPy, and a full disk is told."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.errors import host_problem
from deployment_toolkit.files.arrays import write_array


@pytest.mark.parametrize("array", [np.arange(6).reshape(2, 3).T, np.zeros((0, 2)), np.array([True, False])])
def test_file_is_that_of_numpy(array: np.ndarray) -> None:
    ours, theirs = io.BytesIO(), io.BytesIO()
    write_array(ours, array)
    np.lib.format.write_array(theirs, np.ascontiguousarray(array), version=(1, 0))
    assert ours.getvalue() == theirs.getvalue()


def test_full_disk_is_told_as_one() -> None:
    with pytest.raises(OSError) as raised, Path("/dev/full").open("wb") as file:
        write_array(file, np.arange(100_000))
    assert raised.value.errno == errno.ENOSPC
    assert "No space left on device; make room" in (host_problem(raised.value) or "")
