"""Sample of rows for every server, the framework's answers, and the request bodies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.wire import Wire
from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError

SAMPLE_ROWS = 16_384
_MAX_BODIES = 128


@dataclass(frozen=True)
class Sample:
    """Rows ``x`` [N, …] with the framework's answers, ``probabilities`` [N]."""

    x: Arrays
    probabilities: Array

    def part(self, number: int, rows: int) -> Sample:
        """Sample of the ``number``-th ``rows`` consecutive rows."""
        start, stop = number * rows, (number + 1) * rows
        return Sample({name: array[start:stop] for name, array in self.x.items()}, self.probabilities[start:stop])

    def parts(self, rows: int) -> int:
        """Number of distinct requests of ``rows`` rows."""
        return max(1, min(_MAX_BODIES, len(self.probabilities) // rows))


@dataclass(frozen=True)
class BodyFiles:
    """Files of request bodies, all with the same headers."""

    paths: tuple[Path, ...]
    headers: Mapping[str, str]

    @property
    def mean_bytes(self) -> float:
        """Mean size of a body."""
        return statistics.mean(path.stat().st_size for path in self.paths)


def write_bodies(sample: Sample, wire: Wire, rows: int, folder: Path) -> BodyFiles:
    """Writes the bodies of all requests of ``rows`` rows. Raises DataError if the sample has fewer."""
    if len(sample.probabilities) < rows:
        raise DataError(f"a request of {rows} rows can't be made of the {len(sample.probabilities)} rows of the data")
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    headers: Mapping[str, str] = {}
    for number in range(sample.parts(rows)):
        body = wire.encode(sample.part(number, rows).x)
        paths.append(folder / f"{rows}_rows_{number}")
        paths[-1].write_bytes(body.content)
        assert not headers or headers == dict(body.headers), "requests of as many rows have the same headers"
        headers = dict(body.headers)
    return BodyFiles(tuple(paths), headers)
