"""What a time budget left out of a sweep: a small CSV beside the sweep's own, which is there only if something was."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import BATCH, CONCURRENCY
from deployment_toolkit.results.tables import read_csv, write_csv

Place = tuple[int, int]  # batch, concurrency

_LEFT_OUT = "Left Out"
_POINT, _REPEAT = "point", "repeat"


@dataclass(frozen=True)
class LeftOut:
    """Points that were not measured, and points that did not settle and were not repeated as often as they could be.
    ``asked`` is the number of points of the sweep."""

    asked: int
    points: tuple[Place, ...] = ()
    repeats: tuple[Place, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.points or self.repeats)

    @property
    def words(self) -> str:
        """One line for people."""
        told = []
        if self.points:
            told.append(f"{len(self.points)} of {self.asked} points not measured ({_named(self.points)})")
        if self.repeats:
            told.append(f"{len(self.repeats)} that did not settle not repeated ({_named(self.repeats)})")
        return "; ".join(told)

    def write(self, result_path: Path) -> None:
        """Writes the file beside a sweep's CSV, or removes one of an earlier sweep."""
        path = left_out_path(result_path)
        rows = [
            {"Points": self.asked, BATCH: batch, CONCURRENCY: concurrency, _LEFT_OUT: what}
            for what, places in ((_POINT, self.points), (_REPEAT, self.repeats))
            for batch, concurrency in sorted(places)
        ]
        if rows:
            write_csv(path, rows)
        else:
            path.unlink(missing_ok=True)


def left_out_path(result_path: Path) -> Path:
    """File beside a sweep's CSV."""
    return result_path.with_name(f"{result_path.stem}_left_out.csv")


def read_left_out(result_path: Path) -> LeftOut:
    """What was left out of the sweep with this CSV; nothing if there is no file. Raises DataError for a damaged one."""
    path = left_out_path(result_path)
    if not path.is_file():
        return LeftOut(0)
    found: dict[str, list[Place]] = {_POINT: [], _REPEAT: []}
    asked = 0
    for number, line in enumerate(read_csv(path), start=2):
        try:
            asked = int(line["Points"])
            found[line[_LEFT_OUT]].append((int(line[BATCH]), int(line[CONCURRENCY])))
        except (KeyError, ValueError) as error:
            raise DataError(
                f"{path}, line {number} does not say what was left out ({error!r}): measure again"
            ) from error
    return LeftOut(asked, tuple(found[_POINT]), tuple(found[_REPEAT]))


def _named(places: Collection[Place]) -> str:
    """Points by what distinguishes them."""
    batches, loads = ({place[index] for place in places} for index in (0, 1))
    if len(loads) == 1:
        return f"batch {', '.join(map(str, sorted(batches)))} at concurrency {min(loads)}"
    if len(batches) == 1:
        return f"concurrency {', '.join(map(str, sorted(loads)))} at batch {min(batches)}"
    return ", ".join(f"batch {batch} at concurrency {load}" for batch, load in sorted(places))
