"""Runs that were killed. A run has a mark in its folder while it lives; the next start in the workspace finds the marks
of processes that are gone, and removes what only those runs needed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from deployment_toolkit.errors import DataError
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
    host; ``keeps_models`` if the run was asked to."""

    pid: int
    start_ticks: int
    kernel: str
    keeps_models: bool

    @property
    def is_alive(self) -> bool:
        """True if this kernel has the process."""
        return self.kernel == kernel_id() and _start_ticks(self.pid) == self.start_ticks


@contextlib.contextmanager
def marked_as_running(workspace: Workspace, *, keeps_models: bool) -> Iterator[None]:
    """Keeps the mark of this process in a new run's folder until the block is left. The mark is locked, because the
    kernel frees a lock when its process ends, and process ids mean nothing in another container."""
    owner = _Owner(os.getpid(), _start_ticks(os.getpid()) or 0, kernel_id(), keeps_models)
    mark, beside = workspace.run / MARK, workspace.run / f"{MARK}.new"
    with beside.open("x") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(asdict(owner)))
        file.flush()
        beside.replace(mark)
        try:
            yield
        finally:
            mark.unlink(missing_ok=True)


def clear_killed_runs(root: Path) -> None:
    """Finds the runs in the workspace ``root`` that were killed, marks them in their ``task.yaml``, and removes their
    models, unless they were to be kept. One line of the log tells of each. Runs that live, here or in another
    container, are left alone, and so is what another host may use."""
    for mark in sorted((root / "runs").glob(f"*/{MARK}")):
        if mark.parent.is_symlink():
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
        yield None if owner.is_alive or elsewhere or not mark.exists() else owner


def _clear(workspace: Workspace, owner: _Owner) -> None:
    (workspace.run / RESERVE).unlink(missing_ok=True)
    if not owner.keeps_models:
        workspace.remove_models()
    logger.warning(
        "run %s was killed: process %d is gone; its models are %s",
        workspace.run_name,
        owner.pid,
        f"kept in {workspace.root}, as it was asked to" if owner.keeps_models else "removed",
    )
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
