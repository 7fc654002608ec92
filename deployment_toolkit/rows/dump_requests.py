"""Request sizes of a dump: ``requests.json`` next to its sections, a list of ``[rows of a request, number of such
requests in a row]``."""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

REQUESTS_FILE = "requests.json"


class RequestsWriter:
    """Writer of the request sizes; ``add`` is called for each request in order."""

    def __init__(self) -> None:
        self._runs: list[list[int]] = []

    def add(self, rows: int) -> None:
        """Adds a request of so many rows."""
        if self._runs and self._runs[-1][0] == rows:
            self._runs[-1][1] += 1
        else:
            self._runs.append([rows, 1])

    def write(self, folder: Path) -> None:
        """Writes the file to the dump's folder."""
        (folder / REQUESTS_FILE).write_text(json.dumps(self._runs))


class Requests:
    """Request sizes of the dump in ``folder``; unknown if the file is missing or its total is not ``rows``."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._runs = _read(folder / REQUESTS_FILE)
        self._ends = list(accumulate(size * count for size, count in self._runs))
        if self._ends[-1:] != [rows]:
            self._runs, self._ends = [], []

    def rows_with(self, row: int) -> int | None:
        """Number of rows of the request that had this row; None if unknown."""
        return self._runs[bisect.bisect_right(self._ends, row)][0] if self._runs else None


def _read(path: Path) -> Sequence[tuple[int, int]]:
    try:
        return [(int(size), int(count)) for size, count in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError):
        return []
