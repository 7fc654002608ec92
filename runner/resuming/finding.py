"""The run to resume, and whether it can go on here."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.redaction import redacted_plain
from deployment_toolkit.sameness.host import other_features
from runner.config.run import RunConfig
from runner.killed_runs import MARK
from runner.records import StageState
from runner.report.task import TASK_FILE, read_task
from runner.resuming.ledger import RunLedger
from runner.workspace import Workspace

logger = logging.getLogger("runner")

_MOST_TOLD = 8


@dataclass(frozen=True)
class RunToResume:
    """A run that goes on: its folders and its ledger."""

    workspace: Workspace
    ledger: RunLedger

    @property
    def earlier(self) -> dict[str, Any] | None:
        """The record of the run, None if it was killed before its first. Raises DataError if it can't be read."""
        path = self.workspace.run / TASK_FILE
        return read_task(path) if path.is_file() else None

    def arguments(self, given: Sequence[str]) -> list[str]:
        """Arguments of the command that started the run, then those that are given now. Raises UsageError if there were
        secrets among them, which no file holds, and the configuration is not given again."""
        place = ["--workspace-path", str(self.workspace.root)]
        known = list(self.ledger.arguments)
        if not self.ledger.has_secrets:
            return [*known, *given, *(place if known[-2:] != place else [])]
        if not any(part.partition("=")[0] == "--config-path" for part in given):
            raise UsageError(
                f"run {self.workspace.run_name} was started with a password in its command, which no file holds: "
                "repeat the whole command, with --resume"
            )
        return [*given, *place]

    def require_same_place(self) -> None:
        """Raises UsageError on another host, or in another folder: paths of the configuration mean others there."""
        name, others = self.workspace.run_name, other_features(self.ledger.host)
        if others:
            raise UsageError(
                f"run {name} was measured on another host ({', '.join(others)}), whose points are not mixed with this "
                "one's: start a new run"
            )
        if Path(self.ledger.folder) != Path.cwd():
            raise UsageError(f"run {name} was started in {self.ledger.folder}: resume it from there")

    def tell_changes(self, config: RunConfig) -> None:
        """Logs which keys of the configuration have changed since."""
        earlier = self.earlier
        keys = changed_keys(earlier["config"], redacted_plain(to_plain(config))) if earlier else []
        if keys:
            more = f" and {len(keys) - _MOST_TOLD} more" if len(keys) > _MOST_TOLD else ""
            told = ", ".join(keys[:_MOST_TOLD])
            logger.info("the configuration has changed: %s%s: stages that this concerns run again", told, more)


def find_run(given: str, root: Path) -> RunToResume | None:
    """The run with this name or folder; without either the newest in the workspace that did not end well. None, with
    the reason in the log, if there is nothing to resume. Raises UsageError if there is no such run, DataError if it
    can't be resumed."""
    workspace = _named(given, root) if given else _newest(root)
    if workspace is None:
        logger.info("nothing to resume: every run in %s has ended well", root / "runs")
        return None
    if _ended_well(workspace):
        logger.info("nothing to resume: run %s has ended well", workspace.run_name)
        return None
    return RunToResume(workspace, RunLedger.read(workspace.run))


def changed_keys(before: Any, now: Any, name: str = "") -> list[str]:
    """Keys, with dots and list numbers from 1, whose values differ between two plain configurations."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        pairs: list[tuple[Any, Any, Any]] = [(key, before.get(key), now.get(key)) for key in {**before, **now}]
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = list(zip(range(1, len(now) + 1), before, now, strict=True))
    else:
        return [] if before == now else [name]
    return [found for key, a, b in pairs for found in changed_keys(a, b, f"{name}.{key}" if name else str(key))]


def _named(given: str, root: Path) -> Workspace:
    folder = next((path for path in (root / "runs" / given, Path(given)) if path.is_dir()), None)
    if folder is None:
        raise UsageError(f"--resume {given}: there is no such run in {root / 'runs'}, and no such folder")
    folder = folder.resolve()
    if folder.parent.name != "runs":
        raise UsageError(f"--resume {given}: {folder} is no run, give a folder of a workspace's runs")
    return Workspace(folder.parent.parent, folder.name)


def _newest(root: Path) -> Workspace | None:
    """The newest run that did not end well. Raises UsageError if there is no run."""
    folders = sorted(
        (path for path in (root / "runs").glob("*") if path.is_dir() and not path.is_symlink()), reverse=True
    )
    if not folders:
        raise UsageError(f"--resume: there is no run in {root / 'runs'}: check --workspace-path")
    workspaces = (Workspace(root.resolve(), folder.name) for folder in folders)
    return next((workspace for workspace in workspaces if not _ended_well(workspace)), None)


def _ended_well(workspace: Workspace) -> bool:
    """True for a run all of whose stages ended well. One that can't be read, or is not a run, is none to resume."""
    path = workspace.run / TASK_FILE
    if (workspace.run / MARK).exists():
        return False
    try:
        record = read_task(path)
    except DataError as error:
        logger.info("run %s is passed over: %s", workspace.run_name, error)
        return True
    ended = (StageState.FAILED, StageState.KILLED, StageState.INTERRUPTED, StageState.RUNNING)
    whole = record.get("finished") is not None and not record.get("interrupted") and not record.get("killed")
    return whole and not any(stage["state"] in ended for stage in record["stages"])
