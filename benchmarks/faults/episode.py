"""What a campaign is made of: episodes. Each is one trial of one part, with its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from benchmarks.faults.subjects import AskedModel

FAULTS = ("accepted", "wrong", "unanswered", "crashes", "bad_files", "left_behind", "others")


@dataclass(frozen=True)
class Counts:
    """Counts of an episode. The fields of ``FAULTS`` must be 0.

    ``odd`` requests must be refused: ``accepted`` are those that were not. ``good`` requests must be answered right:
    ``wrong`` differ from the engine's own answer, ``unanswered`` got an error or nothing. ``refused`` good requests are
    those that an overloaded server refused, as it is told to. ``crashes`` are ends of a server by itself. ``bad_files``
    are files that are lost or half-written; ``left_behind`` processes, mounts and shared memory after the end;
    ``others`` everything else that is not as it should be, with the reason in the episode's note.
    """

    odd: int = 0
    good: int = 0
    refused: int = 0
    starts: int = 0
    kills: int = 0
    accepted: int = 0
    wrong: int = 0
    unanswered: int = 0
    crashes: int = 0
    bad_files: int = 0
    left_behind: int = 0
    others: int = 0


@dataclass(frozen=True)
class Episode(Counts):
    """One trial; ``number`` counts within its part."""

    part: str = ""
    number: int = 0
    subject: str = ""
    date: str = ""
    seconds: float = 0.0
    note: str = ""

    @property
    def faults(self) -> int:
        """Number of faults in the episode."""
        return sum(getattr(self, name) for name in FAULTS)


@dataclass
class Outcome:
    """What an episode finds while it runs: its subject in words, counts by the names of ``Counts``, and notes."""

    subject: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1, note: str = "") -> None:
        """Adds to a count; a note says what a fault was."""
        self.counts[name] = self.counts.get(name, 0) + count
        if note and count and len(self.notes) < 5:
            self.notes.append(" ".join(note.split())[:300])


@dataclass(frozen=True)
class Setting:
    """What all episodes share: the models, a folder that is removed at the end, the campaign's seed, the environment of
    all child processes, and the seconds that an episode may take."""

    subjects: tuple[AskedModel, ...]
    folder: Path
    output_dir: Path
    seed: int
    environment: Mapping[str, str]
    seconds: float

    def random(self, part: str, number: int) -> np.random.Generator:
        """Generator of an episode: the same in every call of the campaign."""
        return np.random.default_rng([self.seed, *part.encode(), number])


Part = Callable[[Setting, int, np.random.Generator, Outcome], None]


def now() -> str:
    """Date and time, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
