"""Console output of a run: a line per stage, and the progress of the running one."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import TextIO

from deployment_toolkit.endings.lost_output import write_output
from runner.records import StageRecord, StageState

_LOG_EVERY_S = 15.0
_TAIL_BYTES = 4096
_OLD_S = 10.0
_LOG_PREFIX = re.compile(r"\d\d:\d\d:\d\d [A-Z]+ \S+ ")


class Console:
    """Output to a terminal, where the running stage's line is updated in place, or to a file, with occasional lines."""

    def __init__(self, stream: TextIO, run_folder: Path) -> None:
        self._stream = stream
        self._run_folder = run_folder
        self._tty = stream.isatty()
        self._started = 0.0
        self._shown = 0.0

    def show(self, text: str) -> None:
        """Writes a text on separate lines."""
        self._clear()
        write_output(self._stream, text)

    def started(self, record: StageRecord) -> None:
        """Shows that a stage begins."""
        self._started = self._shown = time.monotonic()
        if not self._tty:
            self.show(f"{_title(record)} …")

    def running(self, record: StageRecord, command: str, log: Path) -> None:
        """Shows a stage's progress: its running command, and the last line that this printed, with its age."""
        now = time.monotonic()
        if now - self._shown < (1.0 if self._tty else _LOG_EVERY_S):
            return
        self._shown = now
        line = f"{_title(record)} {now - self._started:4.0f} s  {_doing(record, command, log)}"
        if self._tty:
            width = shutil.get_terminal_size().columns
            write_output(self._stream, f"\r{line[: width - 1]:<{width - 1}}", end="")
        else:
            write_output(self._stream, f"  {line}")

    def finished(self, record: StageRecord) -> None:
        """Shows that a stage ended or was skipped."""
        memory = f"{record.peak_memory_bytes / 2**30:6.1f} GiB" if record.peak_memory_bytes else ""
        seconds = f"{record.seconds:7.1f} s" if record.seconds else ""
        line = f"{_title(record):<36} {str(record.state).upper():<12}{seconds:>9} {memory:>10}"
        self.show(line.rstrip() + (f"  {record.message}" if record.message else ""))
        if record.message and record.log and record.state is not StageState.OK:
            self.show(f"  log: {self._run_folder / record.log}{{,.err}}")

    def kept(self, record: StageRecord) -> None:
        """Shows that a stage of an earlier part of the run is kept."""
        self.show(f"{_title(record):<36} KEPT, it ended in part {record.part}")

    def _clear(self) -> None:
        if self._tty:
            write_output(self._stream, "\r" + " " * (shutil.get_terminal_size().columns - 1) + "\r", end="")


def _title(record: StageRecord) -> str:
    where = "preparation" if record.experiment is None else f"experiment {record.experiment}"
    return f"{where} · {record.name}"


def _doing(record: StageRecord, command: str, log: Path) -> str:
    """What a command does, by the last line that it printed. A line that is no longer new has its age, since more may
    have happened."""
    name = "" if command == record.name.replace(" ", "_") else f"{command}: "
    line, age_s = _last_line(log)
    if not line:
        return f"{name}no message yet"
    return f"{name}{f'({age_s:.0f} s ago) ' if age_s >= _OLD_S else ''}{_LOG_PREFIX.sub('', line, count=1)}"


def _last_line(log: Path) -> tuple[str, float]:
    """The last line of a log, and the seconds since then."""
    if not log.exists():
        return "", 0.0
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return (lines[-1] if lines else ""), time.time() - log.stat().st_mtime
