"""Execution of a stage's commands, with records of their outcomes."""

from __future__ import annotations

import contextlib
import glob
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DeploymentError, ProcessError, host_problem
from deployment_toolkit.files.atomic import share, size_words
from deployment_toolkit.process import KILLED, Child, last_lines, run
from deployment_toolkit.process_memory import tree_memory
from deployment_toolkit.redaction import redacted
from runner.command import Command
from runner.console import Console
from runner.records import StageRecord, StageState

_SAMPLE_S = 0.5
# To read a large model's memory takes tens of milliseconds, which would disturb what is measured on the same cores.
_MOST_OF_A_CORE = 0.02


@dataclass(frozen=True)
class _Made:
    experiment: int
    path: Path
    log: str


class Executor:
    """Executor of commands, one after another, with their logs in one folder. ``env`` is the children's environment;
    ``changed`` is called after each change of a record; ``part`` is the part of the run that they belong to."""

    def __init__(
        self, logs: Path, env: Mapping[str, str], console: Console, changed: Callable[[], object], part: int = 1
    ) -> None:
        self._logs = logs
        self._env = dict(env)
        self._console = console
        self._changed = changed
        self._part = part
        self._made: dict[tuple[str, ...], _Made] = {}
        self.records: list[StageRecord] = []

    def tell(self, text: str) -> None:
        """Shows a text that is not the result of a stage."""
        self._console.show(text)

    def note(self, name: str, experiment: int | None, state: StageState, message: str) -> None:
        """Records a stage that is not run."""
        self.records.append(StageRecord(name, experiment, state, message=message, part=self._part))
        self._console.finished(self.records[-1])
        self._changed()

    def keep(self, record: StageRecord) -> None:
        """Takes over the record of a stage of an earlier part, which is not run again."""
        self.records.append(record)
        self._console.kept(record)
        self._changed()

    @contextlib.contextmanager
    def stage(self, name: str, experiment: int | None, cause: Callable[[], str] = lambda: "") -> Iterator[StageRecord]:
        """Records the block as a stage. An error in it is recorded and shown but not raised, except Ctrl-C. ``cause``
        is asked after an error: what lies behind it, such as the end of a server, or nothing."""
        record = StageRecord(name, experiment, StageState.RUNNING, part=self._part)
        self.records.append(record)
        self._console.started(record)
        self._changed()
        started = time.monotonic()
        try:
            yield record
            record.state = StageState.OK
        except KeyboardInterrupt:
            record.state, record.message = StageState.INTERRUPTED, "interrupted"
            raise
        except ProcessError as error:
            record.state, record.message = StageState.FAILED, _own_words(error)
        except DeploymentError as error:
            record.state, record.message = StageState.FAILED, str(error)
        except Exception as error:  # a bug in this project must not stop the other experiments
            problem = host_problem(error)
            if problem is None:
                record.message = f"{type(error).__name__}: {error}"
                self._console.show(redacted(traceback.format_exc()))
            else:
                record.message = f"{getattr(error, 'filename', None) or error}: {problem}"
            record.state = StageState.FAILED
        finally:
            record.seconds = time.monotonic() - started
            if record.state is StageState.FAILED:
                record.message = _with_reasons(record, cause())
            record.message = redacted(record.message)
            self._console.finished(record)
            self._changed()

    def run(self, record: StageRecord, command: Command, server_pid: int | None = None) -> None:
        """Runs one command to its end. Raises ProcessError if it fails."""
        prefix = "" if record.experiment is None else f"experiment_{record.experiment}_"
        log = self._logs / f"{prefix}{command.name}.log"
        record.log = f"{self._logs.name}/{log.name}"
        record.commands.append(command)
        stderr = log.with_name(log.name + ".err")
        next_sample = 0.0

        def watch(child: Child) -> None:
            nonlocal next_sample
            self._console.running(record, command.name, stderr)
            if time.monotonic() >= next_sample:
                began_s = time.thread_time()
                pids = [child.pid] if server_pid is None else [child.pid, server_pid]
                held_bytes = sum(tree_memory(pid, skip_forbidden=True).pss_bytes for pid in pids)
                record.peak_memory_bytes = max(record.peak_memory_bytes, held_bytes)
                took_s = time.thread_time() - began_s
                pause_s = _SAMPLE_S if server_pid is None else max(_SAMPLE_S, took_s / _MOST_OF_A_CORE)
                next_sample = time.monotonic() + pause_s

        run(command.argv, env={**self._env, **command.private}, log_path=log, watch=watch, stop_signal=signal.SIGINT)
        if command.makes is not None and record.experiment is not None:
            self._made[command.recipe] = _Made(record.experiment, command.makes, record.log)

    def take_over(self, record: StageRecord, command: Command) -> int | None:
        """Shares with an earlier experiment what the command would make; returns that experiment's number, or None if
        no experiment has made it or its files are gone."""
        made = self._made.get(command.recipe)
        if made is None or command.makes is None or not made.path.exists():
            return None
        for path in made.path.parent.glob(f"{glob.escape(made.path.name)}*"):
            target = command.makes.with_name(command.makes.name + path.name.removeprefix(made.path.name))
            share(path, target)
        record.log = made.log
        record.commands.append(command)
        return made.experiment


class StageShell:
    """Shell of one stage. ``server_pid`` is the server's process, whose memory counts as the stage's too."""

    def __init__(self, executor: Executor, record: StageRecord, server_pid: int | None) -> None:
        self._executor = executor
        self._record = record
        self._server_pid = server_pid
        self._failed: list[Command] = []

    def run(self, command: Command) -> None:
        """Runs a command to its end, unless an earlier experiment has made the same. Raises ProcessError if it
        fails."""
        earlier = self._executor.take_over(self._record, command)
        if earlier is not None:
            what = "" if command.name == self._record.name else f"{command.name.replace('_', ' ')}: "
            self.note(f"{what}as experiment {earlier} made it")
            return
        try:
            self._executor.run(self._record, command, self._server_pid)
        except ProcessError:
            self._failed.append(command)
            raise

    def tell(self, text: str) -> None:
        """Shows a text to the user."""
        self._executor.tell(text)

    def note(self, text: str) -> None:
        """Records what people should know of a stage that ended well, and shows it with the stage's end."""
        self._record.message = text

    def leave_failures_out(self) -> None:
        """Removes failed commands from the record of a stage that ended well; the replay script skips them too."""
        self._record.commands = [command for command in self._record.commands if command not in self._failed]


def _own_words(error: ProcessError) -> str:
    """The child's own error message, else how a signal ended it, and the last lines that it printed."""
    told = [line for line in error.stderr.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    said = told[-1].removeprefix("error: ") if told else last_lines(error.stderr or str(error), 3)
    by_signal = error.returncode is not None and error.returncode < 0
    return f"its process {error.ending}; its last lines: {said}" if by_signal else said


def _with_reasons(record: StageRecord, cause: str) -> str:
    """The message of a stage that failed, with its cause, and if memory may have run out with the memory it held."""
    message = f"{cause}; then the stage failed: {record.message}" if cause else record.message
    if KILLED in message and record.peak_memory_bytes:
        message += f" (largest memory seen, with the server's: {size_words(record.peak_memory_bytes)})"
    return message
