"""Records of stages: state, time, memory, message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from deployment_toolkit.core import Mnemonic
from runner.command import Command


class StageState(Mnemonic):
    """State of a stage."""

    RUNNING = "running"
    OK = "ok"
    REUSED = "reused"
    FAILED = "failed"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"
    KILLED = "killed"  # with the run; the next start found it


@dataclass
class StageRecord:
    """A stage of a run. ``peak_memory_bytes`` is the largest proportional set size (PSS) of its processes together,
    with the server's; ``log`` is the log of its last command, relative to the run's folder; ``uncounted_s`` are seconds
    that the run's time budget is not for. ``part`` is the part of the run that it ended in, 1 for a run that was not
    resumed."""

    name: str
    experiment: int | None
    state: StageState
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    message: str = ""
    log: str = ""
    commands: list[Command] = field(default_factory=list)
    uncounted_s: float = 0.0
    part: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML types of the record."""
        return {
            "name": self.name,
            "experiment": self.experiment,
            "state": str(self.state),
            "seconds": round(self.seconds, 1),
            "peak_memory_bytes": self.peak_memory_bytes,
            "message": self.message,
            "log": self.log,
            **({"part": self.part} if self.part > 1 else {}),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> StageRecord:
        """A record, without its commands, from ``to_dict``. Raises KeyError or ValueError."""
        return cls(
            str(plain["name"]),
            plain["experiment"],
            StageState(plain["state"]),
            float(plain["seconds"]),
            int(plain["peak_memory_bytes"]),
            str(plain["message"]),
            str(plain["log"]),
            part=int(plain.get("part", 1)),
        )
