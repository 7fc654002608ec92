"""Parts of a run that was stopped and resumed: when and how each was started and ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import markdown_table
from runner.records import StageRecord, StageState


@dataclass(frozen=True)
class RunPart:
    """A part of a run. Times are UTC; ``finished`` is None if it was killed. ``ended`` is ``ok``, ``failed``,
    ``interrupted``, ``killed`` or ``running``; ``unfinished`` names the stages that were running then."""

    command: str
    started: datetime
    finished: datetime | None
    ended: str
    host: str
    load_average: float
    unfinished: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain YAML types of the part."""
        return {
            "command": self.command,
            "started": self.started.isoformat(timespec="seconds"),
            "finished": None if self.finished is None else self.finished.isoformat(timespec="seconds"),
            "ended": self.ended,
            "unfinished": self.unfinished,
            "host": self.host,
            "load_average": self.load_average,
        }


def parts_in(record: Mapping[str, Any]) -> list[RunPart]:
    """Parts of a run that has ended, in its ``task.yaml``. Raises DataError if it lacks one of their values."""
    try:
        records = [StageRecord.from_dict(stage) for stage in record["stages"]]
        *before, last = record.get("parts") or [_only_part(record)]
        last = {
            **last,
            "finished": record["finished"],
            "ended": _how(record, records),
            "unfinished": _broken_off(records),
        }
        return [_part(part) for part in (*before, last)]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"the record of the run, its task.yaml, is damaged ({error!r}): start a new run") from error


def parts_section(parts: Sequence[RunPart]) -> list[str]:
    """Parts of the report about the parts of a run; empty if it was not resumed."""
    if len(parts) == 1:
        return []
    table = [
        {
            "part": number,
            "started (UTC)": f"{part.started:%Y-%m-%d %H:%M:%S}",
            "ended (UTC)": "-" if part.finished is None else f"{part.finished:%Y-%m-%d %H:%M:%S}",
            "how it ended": "; ".join([part.ended, *part.unfinished]),
            "load average at the start": part.load_average,
            "command": f"`{part.command}`",
        }
        for number, part in enumerate(parts, 1)
    ]
    told = (
        f"This run has {len(parts)} parts: it ended early, and was resumed. What an earlier part had made and measured "
        "on this host with the same code, options and model is kept; the stages below name the part that they ended "
        "in.\n"
    )
    return ["## Parts\n", told, markdown_table(table)]


def _only_part(record: Mapping[str, Any]) -> dict[str, Any]:
    system = record["system"]
    return {
        "command": record["command"],
        "started": record["started"],
        "host": f"{system['cpu']}, {system['cores']} cores, {system['memory_gib']:.0f} GiB, {system['system']}",
        "load_average": system["load_average"],
    }


def _how(record: Mapping[str, Any], records: Sequence[StageRecord]) -> str:
    if record.get("killed"):
        return "killed"
    if record["interrupted"]:
        return "interrupted"
    return "failed" if any(stage.state is StageState.FAILED for stage in records) else "ok"


def _broken_off(records: Sequence[StageRecord]) -> list[str]:
    """Stages that were running when the part ended."""
    ended = [stage for stage in records if stage.state in (StageState.INTERRUPTED, StageState.KILLED)]
    return [
        f"{_where(stage)}, {stage.name}" + (f", after {stage.seconds:.0f} s" if stage.seconds else "")
        for stage in ended
    ]


def _part(plain: Mapping[str, Any]) -> RunPart:
    return RunPart(
        command=str(plain["command"]),
        started=datetime.fromisoformat(str(plain["started"])),
        finished=None if plain["finished"] is None else datetime.fromisoformat(str(plain["finished"])),
        ended=str(plain["ended"]),
        host=str(plain["host"]),
        load_average=float(plain["load_average"]),
        unfinished=[str(text) for text in plain["unfinished"]],
    )


def _where(record: StageRecord) -> str:
    return "preparation" if record.experiment is None else f"experiment {record.experiment}"
