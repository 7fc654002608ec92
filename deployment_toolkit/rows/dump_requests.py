"""In how many rows at once a model was asked what is in a dump: ``requests.json`` beside its sections, a list of
``[rows of a request, how many such requests follow each other]``."""

from __future__ import annotations

import bisect
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

REQUESTS_FILE = "requests.json"


class RequestsWriter:
    """Told of one request after the other."""

    def __init__(self) -> None:
        self._runs: list[list[int]] = []

    def add(self, rows: int) -> None:
        """The next request had so many rows."""
        if self._runs and self._runs[-1][0] == rows:
            self._runs[-1][1] += 1
        else:
            self._runs.append([rows, 1])

    def write(self, folder: Path) -> None:
        """Into the dump's folder."""
        (folder / REQUESTS_FILE).write_text(json.dumps(self._runs))


class Requests:
    """The requests of the dump in ``folder``; of one without the file, or whose file tells of another number than
    ``rows``, nothing is known."""

    def __init__(self, folder: Path, rows: int) -> None:
        self._runs = _read(folder / REQUESTS_FILE)
        self._ends = list(accumulate(size * count for size, count in self._runs))
        if self._ends[-1:] != [rows]:
            self._runs, self._ends = [], []

    def rows_with(self, row: int) -> int | None:
        """How many rows the request had in which this row was."""
        return self._runs[bisect.bisect_right(self._ends, row)][0] if self._runs else None


def _read(path: Path) -> Sequence[tuple[int, int]]:
    try:
        return [(int(size), int(count)) for size, count in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError):
        return []
