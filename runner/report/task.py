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
from runner.report.system_info import SystemInfo

TASK_FILE = "task.yaml"
QUICK_LOOK = "This is a quick look, not the full run."


@dataclass
class Task:
    """Record of a run. Times are UTC. ``interrupted`` means that Ctrl-C ended the run before its last stage. ``quick``
    says, in sentences, what a quick look does otherwise than the full run; it is empty for the full run."""

    config: RunConfig
    command: str
    system: SystemInfo
    started: datetime
    finished: datetime | None = None
    interrupted: bool = False
    quick: list[str] = field(default_factory=list)
    records: list[StageRecord] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """True if any stage failed."""
        return any(record.state is StageState.FAILED for record in self.records)

    def of_experiment(self, number: int | None) -> list[StageRecord]:
        """Stages of one experiment, or of the preparation."""
        return [record for record in self.records if record.experiment == number]

    def save(self, path: Path) -> None:
        """Writes ``task.yaml``."""
        plain = {
            "command": self.command,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": None if self.finished is None else self.finished.isoformat(timespec="seconds"),
            "interrupted": self.interrupted,
            **({"quick": self.quick} if self.quick else {}),
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
