"""Runs that live, were killed or were stopped. A run has a mark in its folder while it lives, and after Ctrl-C. With
``--resume`` the run goes on. Any other start in the workspace finds the marks of processes that are gone, and removes
what only those runs needed."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import yaml

from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.mounts import is_of_one_kernel
from deployment_toolkit.files.scratch import kernel_id
from runner.records import StageState
from runner.report.task import TASK_FILE, read_task
from runner.reserve import RESERVE
from runner.workspace import Workspace

logger = logging.getLogger("runner")

MARK = ".running"
_STAT_START = 19  # of proc(5)'s fields after the name: the start of the process, in clock ticks since the boot


@dataclass(frozen=True)
class _Owner:
    """Process of a run. ``start_ticks`` tells it from a later one with the same id, ``kernel`` from one of another
    host; ``keeps_models`` if the run was asked to; ``stopped`` if it ended by Ctrl-C."""

    pid: int
    start_ticks: int
    kernel: str
    keeps_models: bool
    stopped: bool = False

    @property
    def is_alive(self) -> bool:
        """True if this kernel has the process."""
        return self.kernel == kernel_id() and _start_ticks(self.pid) == self.start_ticks


@contextlib.contextmanager
def marked_as_running(workspace: Workspace, *, keeps_models: bool) -> Iterator[None]:
    """Keeps the mark of this process in a run's folder until the block is left, after Ctrl-C until the next start. The
    mark is locked, because the kernel frees a lock when its process ends, and process ids mean nothing in another
    container."""
    owner = _Owner(os.getpid(), _start_ticks(os.getpid()) or 0, kernel_id(), keeps_models)
    mark, beside = workspace.run / MARK, workspace.run / f"{MARK}.new"
    with beside.open("w") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(asdict(owner)))
        file.flush()
        beside.replace(mark)
        try:
            yield
        except KeyboardInterrupt:
            if keeps_models or _failed(workspace):
                mark.unlink(missing_ok=True)  # its models stay
            else:
                write_text(mark, json.dumps(asdict(dataclasses.replace(owner, stopped=True))))
            raise
        except BaseException:
            mark.unlink(missing_ok=True)
            raise
        mark.unlink(missing_ok=True)


@contextlib.contextmanager
def marked_as_resumed(workspace: Workspace, *, keeps_models: bool) -> Iterator[None]:
    """The same for a run that goes on. A run that was killed is marked so in its ``task.yaml`` first. Raises UsageError
    if it is still running, or its mark is another host's."""
    mark = workspace.run / MARK
    with contextlib.ExitStack() as running:
        with contextlib.ExitStack() as entering:
            entering.enter_context(_locked_folder(workspace.run))  # two that resume it come one after the other
            if mark.exists():
                owner = entering.enter_context(_taken_over(mark))
                if owner is None:
                    raise UsageError(_who_runs(mark))
                if not owner.stopped:
                    _mark_killed(workspace, owner)
            running.enter_context(marked_as_running(workspace, keeps_models=keeps_models))
        yield


def clear_killed_runs(root: Path, resumed: str = "") -> None:
    """Finds the runs in the workspace ``root`` that were killed or stopped, marks the killed ones in their
    ``task.yaml``, and removes their models, unless they were to be kept. One line of the log tells of each. Runs that
    live, here or in another container, are left alone, and so is what another host may use, and the run ``resumed``."""
    for mark in sorted((root / "runs").glob(f"*/{MARK}")):
        if mark.parent.is_symlink() or mark.parent.name == resumed:
            continue
        try:
            with _taken_over(mark) as owner:
                if owner is not None:
                    _clear(Workspace(root.resolve(), mark.parent.name), owner)
                    mark.unlink()
        except (OSError, DataError) as error:
            logger.warning("run %s was killed, and what it left can't be cleared: %s", mark.parent.name, error)


@contextlib.contextmanager
def _taken_over(mark: Path) -> Iterator[_Owner | None]:
    """The owner of a mark if it is gone, else None. No other start takes the mark over while the block runs."""
    with mark.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        try:
            owner = _Owner(**json.load(file))
        except (ValueError, TypeError) as error:
            raise DataError(f"{mark} is damaged: remove it, and the run's models by hand") from error
        elsewhere = owner.kernel != kernel_id() and not is_of_one_kernel(mark.parent)
        yield owner if not (owner.is_alive or elsewhere) and _is_same(file, mark) else None


def _is_same(file: IO[str], path: Path) -> bool:
    """True if an open file is what the path leads to now."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _who_runs(mark: Path) -> str:
    """Sentence on a run whose mark is in use."""
    run = f"run {mark.parent.name}"
    try:
        owner, since = _Owner(**json.loads(mark.read_text())), datetime.fromtimestamp(mark.stat().st_mtime, UTC)
    except (OSError, ValueError, TypeError):
        return f"{run} is still running or just ended: wait for its end, then resume it"
    place = "" if owner.kernel == kernel_id() else " of another host"
    return f"{run} is still running (process {owner.pid}{place}, since {since:%Y-%m-%d %H:%M:%S} UTC): wait for its end"


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    file = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _failed(workspace: Workspace) -> bool:
    """True if a stage of the run failed: its models stay for inspection."""
    try:
        stages = read_task(workspace.run / TASK_FILE)["stages"]
    except (DataError, OSError):
        return False
    return any(stage["state"] == StageState.FAILED for stage in stages)


def _clear(workspace: Workspace, owner: _Owner) -> None:
    (workspace.run / RESERVE).unlink(missing_ok=True)
    if not owner.keeps_models:
        workspace.remove_models()
    kept = f"kept in {workspace.root}, as it was asked to" if owner.keeps_models else "removed"
    if owner.stopped:
        logger.info("run %s was stopped and not resumed: its models are %s", workspace.run_name, kept)
        return
    logger.warning("run %s was killed: process %d is gone; its models are %s", workspace.run_name, owner.pid, kept)
    _mark_killed(workspace, owner)


def _mark_killed(workspace: Workspace, owner: _Owner) -> None:
    path = workspace.run / TASK_FILE
    if not path.is_file():
        return  # it was killed before its first stage
    record = read_task(path)
    record["killed"] = True
    for stage in record["stages"]:
        if stage["state"] == StageState.RUNNING:
            stage |= {
                "state": str(StageState.KILLED),
                "message": f"the run was killed: its process {owner.pid} is gone",
            }
    write_text(path, yaml.safe_dump(record, sort_keys=False, width=120))


def _start_ticks(pid: int) -> int | None:
    """Start of a process; None if there is none with this id."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[_STAT_START])
