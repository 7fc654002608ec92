"""The rows that every server is asked about, the framework's answers to them, and the bodies that carry them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.wire import Wire
from deployment_toolkit.core import Array, Arrays

SAMPLE_ROWS = 16_384
_MAX_BODIES = 128


@dataclass(frozen=True)
class Sample:
    """Rows ``x`` [N, …] with what the framework answers to them, ``probabilities`` [N]."""

    x: Arrays
    probabilities: Array

    def part(self, number: int, rows: int) -> Sample:
        """The ``number``-th ``rows`` consecutive rows."""
        start, stop = number * rows, (number + 1) * rows
        return Sample({name: array[start:stop] for name, array in self.x.items()}, self.probabilities[start:stop])

    def parts(self, rows: int) -> int:
        """How many different requests of ``rows`` rows are sent."""
        return max(1, min(_MAX_BODIES, len(self.probabilities) // rows))


@dataclass(frozen=True)
class BodyFiles:
    """Request bodies as files, all with the same headers."""

    paths: tuple[Path, ...]
    headers: Mapping[str, str]


def write_bodies(sample: Sample, wire: Wire, rows: int, folder: Path) -> BodyFiles:
    """Writes the bodies of all requests of ``rows`` rows."""
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
