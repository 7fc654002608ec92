"""Whether a run is worse than the one before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployment_toolkit.errors import DataError
from runner.compare.correctness import CorrectnessLine
from runner.compare.lines import Line
from runner.compare.tables import line_cells

REGRESSED = 3  # exit code


@dataclass(frozen=True)
class Judgement:
    """Figures that got worse by more than ``limit``, a share, beyond noise, and answers that are farther from the
    framework's. ``judged`` counts the figures that have an interval, ``unjudged`` the others."""

    limit: float
    slower: list[Line]
    wrong: list[CorrectnessLine]
    judged: int
    unjudged: int

    @property
    def exit_code(self) -> int:
        """3 if anything got worse. Raises DataError if it did not and no figure could be judged."""
        if self.slower or self.wrong:
            return REGRESSED
        if not self.judged:
            raise DataError(
                f"nothing can be judged: of {self.unjudged} common figures none has an interval; compare runs that "
                "have points in common and both kept the windows of their measurements"
            )
        return 0

    @property
    def sentence(self) -> str:
        """What was found, as one line."""
        limit = f"{100 * self.limit:g} %"
        left = f"; without an interval and not judged: {self.unjudged}" if self.unjudged else ""
        if not self.slower and not self.wrong:
            return f"Of {self.judged} judged figures none got worse by more than {limit} beyond noise{left}."
        told = [f"{len(self.slower)} of {self.judged} judged figures got worse by more than {limit} beyond noise"]
        told += [f"{len(self.wrong)} figures of correctness got worse"] if self.wrong else []
        return f"{'; '.join(told)}{left}."

    @property
    def told(self) -> list[str]:
        """What got worse, a line each."""
        return [f"{line}, {line.run}" for line in self.wrong] + [_told(line) for line in self.slower]


def _told(line: Line) -> str:
    cells = line_cells(line, "")
    values = f"{cells['base value']} -> {cells['value']}, {cells['difference']} ({cells['95 % interval']})"
    return "; ".join([f"{line}: {values}, {line.run}", *line.notes])


def judge(lines: Sequence[Line], correctness: Sequence[CorrectnessLine], limit: float) -> Judgement:
    """Judges all lines of a comparison."""
    judged = [line for line in lines if line.interval is not None]
    return Judgement(
        limit=limit,
        slower=[line for line in judged if line.is_regression(limit)],
        wrong=[line for line in correctness if line.worse],
        judged=len(judged),
        unjudged=len(lines) - len(judged),
    )
