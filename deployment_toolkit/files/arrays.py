"""Arrays in npy files."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from deployment_toolkit.core import Array

npy: Any = np.lib.format  # numpy leaves these functions without types


def write_array(file: IO[bytes], array: Array) -> None:
    """Writes an array as npy, version 1.0, in C order. Raises OSError, which says why, if the file can't be written:
    NumPy's own writer of files tells of a full disk only how many values did not fit."""
    array = np.ascontiguousarray(array)
    npy.write_array_header_1_0(file, npy.header_data_from_array_1_0(array))
    file.write(array.reshape(-1).view(np.uint8).data)
