"""Record of a run: its request, its host, its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.located_yaml import Located, load_yaml
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.redaction import redacted_plain
from runner.config.run import RunConfig
from runner.records import StageRecord, StageState
from runner.report.parts import RunPart
from runner.report.system_info import SystemInfo

TASK_FILE = "task.yaml"


@dataclass
class Task:
    """Record of a run. Times are UTC. ``interrupted`` means that Ctrl-C ended the run before its last stage.
    ``earlier`` are the parts of a run that was resumed before this one, to which the times and the command belong."""

    config: RunConfig
    command: str
    system: SystemInfo
    started: datetime
    finished: datetime | None = None
    interrupted: bool = False
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
            **({"parts": [part.to_dict() for part in self.parts]} if self.earlier else {}),
            "system": self.system.to_dict(),
            "stages": [record.to_dict() for record in self.records],
            "config": redacted_plain(to_plain(self.config)),
        }
        write_text(path, yaml.safe_dump(plain, sort_keys=False, width=120))


def read_task(path: Path) -> dict[str, Any]:
    """Content of a run's ``task.yaml``. Raises DataError, with the line, if it can't be read or lacks a part."""
    found = load_yaml(path)
    record = found.entries("the record of a run")
    for key in ("command", "started", "system", "stages", "config"):
        if key not in record:
            raise found.error(f"the record of a run lacks {key}: give the folder of a run")
    for stage in record["stages"].items("stages"):
        _require_keys(stage, "a stage", ("name", "experiment", "state"))
        for key in ("name", "state"):
            stage.value[key].text(f"{key} of a stage")
        if stage.value["experiment"].value is not None:
            stage.value["experiment"].count("experiment of a stage")
    record["system"].entries("system")
    _require_keys(record["config"], "the configuration", ("configurations",))
    for item in record["config"].value["configurations"].items("configurations"):
        _require_keys(item, "a configuration", ("parameters",))
        _require_keys(item.value["parameters"], "parameters", ("format", "precision"))
        for key in ("format", "precision"):
            item.value["parameters"].value[key].text(key)
    plain: dict[str, Any] = found.plain
    return plain


def _require_keys(found: Located, what: str, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in found.entries(what)]
    if missing:
        raise found.error(f"{what} in the record of a run lacks {missing[0]}")
