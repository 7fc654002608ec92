"""Record of a run: its request, its host, its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import yaml

from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.redaction import redacted_plain
from runner.config.run import RunConfig
from runner.kept_run.record import TASK_FILE, read_task
from runner.records import StageRecord, StageState
from runner.report.parts import RunPart
from runner.report.system_info import SystemInfo

__all__ = ["TASK_FILE", "Task", "read_task"]

QUICK_LOOK = "This is a quick look, not the full run."


@dataclass
class Task:
    """Record of a run. Times are UTC. ``interrupted`` means that Ctrl-C ended the run before its last stage. ``quick``
    says, in sentences, what a quick look does otherwise than the full run; it is empty for the full run. ``earlier``
    are the parts of a run that was resumed before this one, to which the times and the command belong."""

    config: RunConfig
    command: str
    system: SystemInfo
    started: datetime
    finished: datetime | None = None
    interrupted: bool = False
    quick: list[str] = field(default_factory=list)
    records: list[StageRecord] = field(default_factory=list)
    earlier: list[RunPart] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if any stage failed."""
        return any(record.state is StageState.FAILED for record in self.records)

    @property
    def parts(self) -> list[RunPart]:
        """All parts of the run."""
        ended = "interrupted" if self.interrupted else "failed" if self.failed else "ok"
        return [
            *self.earlier,
            RunPart(
                command=self.command,
                started=self.started,
                finished=self.finished,
                ended=ended if self.finished else "running",
                host=self.system.summary,
                load_average=self.system.load_average,
            ),
        ]

    def of_experiment(self, number: int | None) -> list[StageRecord]:
        """Stages of one experiment, or of the preparation."""
        return [record for record in self.records if record.experiment == number]

    def save(self, path: Path) -> None:
        """Writes ``task.yaml``."""
        first = self.parts[0]
        plain = {
            "command": first.command,
            "started": first.started.isoformat(timespec="seconds"),
            "finished": None if self.finished is None else self.finished.isoformat(timespec="seconds"),
            "interrupted": self.interrupted,
            **({"quick": self.quick} if self.quick else {}),
            **({"parts": [part.to_dict() for part in self.parts]} if self.earlier else {}),
            "system": self.system.to_dict(),
            "stages": [record.to_dict() for record in self.records],
            "config": redacted_plain(to_plain(self.config)),
        }
        write_text(path, yaml.safe_dump(plain, sort_keys=False, width=120))
