"""The plan of a scoring, ``_plan.json``: which rows are in which part, and what decides the scores."""

from __future__ import annotations

import bisect
import contextlib
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.durable import whole_file
from deployment_toolkit.rows.batches import Piece
from deployment_toolkit.rows.dump_files import PLAN_FILE
from deployment_toolkit.sameness.command import Origin

_VERSION = 1


@dataclass(frozen=True)
class ScoringPlan:
    """``files`` are the data files in order with their numbers of rows, ``parts`` the rows of each part, which are
    counted over all files. ``origin`` is what decides the scores, in parts that people know by name. ``id`` is of this
    plan alone and in the metadata of its parts."""

    id: str
    origin: dict[str, Any]
    files: tuple[tuple[str, int], ...]
    parts: tuple[range, ...]

    @property
    def rows(self) -> int:
        """Number of all rows."""
        return sum(rows for _, rows in self.files)

    def place_of(self, row: int) -> tuple[str, int]:
        """File of a row, and its number in the file."""
        stops = list(accumulate(rows for _, rows in self.files))
        file = bisect.bisect_right(stops, row)
        return self.files[file][0], row - (stops[file - 1] if file else 0)

    def files_of(self, rows: range) -> list[str]:
        """Files that hold some of these rows."""
        starts = [0, *accumulate(count for _, count in self.files)]
        return [
            path
            for (path, _), (start, stop) in zip(self.files, pairwise(starts), strict=True)
            if start < rows.stop and rows.start < stop
        ]

    def changed(self, origin: dict[str, Any]) -> list[str]:
        """Names of the parts in which an origin differs from this plan's, of options with their flags."""
        plain = json.loads(json.dumps(origin))
        names = Origin(plain).changed(self.origin)
        flags = Origin(plain["options"]).changed(self.origin.get("options"))
        told = " ".join(f"--{flag.replace('_', '-')}" for flag in flags)
        return [f"options ({told})" if name == "options" else name for name in names]


def make_plan(pieces: Sequence[Piece], rows_per_part: int, origin: dict[str, Any]) -> ScoringPlan:
    """Divides the pieces, in order, into parts of at most ``rows_per_part`` rows."""
    files = tuple(
        (str(path), sum(piece.rows for piece in group)) for path, group in groupby(pieces, key=lambda piece: piece.path)
    )
    parts = tuple(_parts((piece.rows for piece in pieces), rows_per_part))
    return ScoringPlan(secrets.token_hex(8), json.loads(json.dumps(origin)), files, parts)


def read_plan(folder: Path) -> ScoringPlan | None:
    """The plan in a folder; None if there is none. Raises DataError if it is damaged."""
    path = folder / PLAN_FILE
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        text = path.read_bytes()
        try:
            plain = json.loads(text)
            if plain["version"] != _VERSION:
                raise ValueError(f"version {plain['version']}")
            files = tuple((str(name), int(rows)) for name, rows in plain["files"])
            parts = tuple(range(int(start), int(stop)) for start, stop in plain["parts"])
            return ScoringPlan(str(plain["id"]), dict(plain["origin"]), files, parts)
        except (ValueError, LookupError, TypeError) as error:
            told = " ".join(str(error).split())
            raise DataError(
                f"{path} can't be read ({told}): give --force to begin anew, or name another folder"
            ) from error
    return None


def write_plan(folder: Path, plan: ScoringPlan) -> None:
    """Writes the plan, whole and on the disk, or not at all. Raises DataError if the folder can't be written."""
    plain = {
        "version": _VERSION,
        "id": plan.id,
        "origin": plan.origin,
        "files": plan.files,
        "parts": [[part.start, part.stop] for part in plan.parts],
    }
    with whole_file(folder / PLAN_FILE) as beside:
        beside.write_text(json.dumps(plain))


def _parts(sizes: Iterable[int], most: int) -> Iterator[range]:
    """Row ranges that end where a piece ends, as far as pieces are small enough; a larger piece is a few parts of
    about the same size."""
    start = stop = 0
    for size in sizes:
        if stop > start and stop - start + size > most:
            yield range(start, stop)
            start = stop
        if size > most:
            pieces = -(-size // most)
            bounds = [start + size * number // pieces for number in range(pieces + 1)]
            yield from (range(*pair) for pair in pairwise(bounds))
            start = stop = start + size
        else:
            stop += size
    if stop > start:
        yield range(start, stop)
