"""Ledger of a run: how it was started, on which host, and the origin of each stage that began or ended. With it a later
start tells what can be kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.texts import read_json
from deployment_toolkit.redaction import redacted_plain
from deployment_toolkit.sameness.host import read_host

LEDGER_FILE = "resume.json"
Write = Callable[[str, Callable[[], None]], object]


@dataclass(frozen=True)
class StageEntry:
    """What is known of a stage. ``origin`` are the parts of its origin; ``made`` are digests of what it left, by name,
    and ``record`` is its record, both None until it has ended well. ``deployed`` is the digest of the model that it
    deployed before it began again."""

    origin: Mapping[str, Any]
    made: Mapping[str, str] | None = None
    record: Mapping[str, Any] | None = None
    deployed: str = ""


@dataclass
class RunLedger:
    """Content of the file. ``arguments`` are those of the command, without the secrets of URLs; ``has_secrets`` if
    there were any. ``folder`` is the folder in which the command was started."""

    path: Path
    arguments: Sequence[str]
    has_secrets: bool
    folder: str
    host: Mapping[str, str]
    stages: dict[str, StageEntry] = field(default_factory=dict)
    write: Write = lambda _, write: write()

    @classmethod
    def begin(cls, run: Path, arguments: Sequence[str]) -> RunLedger:
        """Ledger of a new run, written."""
        shown = [str(part) for part in redacted_plain(list(arguments))]
        ledger = cls(run / LEDGER_FILE, shown, shown != list(arguments), str(Path.cwd()), read_host())
        ledger.save()
        return ledger

    def begin_again(self, arguments: Sequence[str]) -> None:
        """Notes the arguments that the run goes on with."""
        shown = [str(part) for part in redacted_plain(list(arguments))]
        self.arguments, self.has_secrets = shown, shown != list(arguments)
        self.save()

    @classmethod
    def read(cls, run: Path) -> RunLedger:
        """Ledger of an earlier run. Raises DataError if the run has none, or one that can't be read."""
        path = run / LEDGER_FILE
        if not path.is_file():
            raise DataError(f"run {run.name} can't go on, it has no {LEDGER_FILE}: start a new run")
        found = read_json(path)
        try:
            stages = {key: StageEntry(**entry) for key, entry in found["stages"].items()}
            known = {name: found[name] for name in ("arguments", "has_secrets", "folder", "host")}
            return cls(path, **known, stages=stages)
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is not the ledger of a run ({error!r}): start a new run") from error

    def entry(self, key: str) -> StageEntry | None:
        """What is known of a stage."""
        return self.stages.get(key)

    def note(self, key: str, entry: StageEntry) -> None:
        """Replaces what is known of a stage."""
        self.stages[key] = entry
        self.save()

    def forget(self, key: str) -> None:
        """Drops what is known of a stage."""
        if self.stages.pop(key, None) is not None:
            self.save()

    def save(self) -> None:
        """Writes the file."""
        known = {name: getattr(self, name) for name in ("arguments", "has_secrets", "folder", "host")}
        plain = {**known, "stages": {key: asdict(entry) for key, entry in self.stages.items()}}
        self.write(str(self.path), lambda: write_text(self.path, json.dumps(plain, indent=1)))
