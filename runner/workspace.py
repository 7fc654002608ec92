"""Folders of a run. Each run has its own; ``runs/latest`` is a link to the one that was started or resumed last."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import remove


@dataclass(frozen=True)
class ExperimentFolders:
    """Folders of one experiment. ``results`` is kept; ``shared`` and ``model_store`` hold models and
    dumps."""

    results: Path
    shared: Path
    model_store: Path

    @property
    def ensemble_results(self) -> Path:
        """Folder of the ensemble's results; it exists only if there is an ensemble."""
        return self.results / "ensemble"

    @property
    def exported(self) -> Path:
        """Path of the exported model, whose suffix names its format."""
        return self.shared / "exported_model"

    @property
    def converted(self) -> Path:
        """Path of the converted model."""
        return self.shared / "converted_model"

    @property
    def dumps(self) -> Path:
        """Folder of the correctness stage's dumps, one folder each."""
        return self.shared / "dumps"


@dataclass(frozen=True)
class Workspace:
    """Workspace: ``root/checkpoints``, and for one run ``root/runs/<UTC time>``, ``root/shared_dir/<UTC time>`` and
    ``root/model_store/<UTC time>``."""

    root: Path
    run_name: str

    @property
    def run(self) -> Path:
        """Folder of this run's results."""
        return self.root / "runs" / self.run_name

    @property
    def logs(self) -> Path:
        """Folder of the logs: one per command, and the servers'."""
        return self.run / "logs"

    def checkpoint(self, name: str) -> Path:
        """Folder of a checkpoint, shared by all runs."""
        return self.root / "checkpoints" / name / "checkpoint"

    def experiment(self, number: int) -> ExperimentFolders:
        """Folders of experiment ``number``, created if missing."""
        name = f"experiment_{number}"
        folders = ExperimentFolders(
            self.run / name,
            self.root / "shared_dir" / self.run_name / name,
            self.root / "model_store" / self.run_name / name,
        )
        for folder in (folders.results, folders.shared, folders.model_store):
            folder.mkdir(parents=True, exist_ok=True)
        return folders

    def remove_models(self) -> None:
        """Deletes the files that only this run needed: its models and dumps."""
        remove(self.root / "shared_dir" / self.run_name)
        remove(self.root / "model_store" / self.run_name)


def create_workspace(root: Path) -> Workspace:
    """Creates a new run's folders, named after the time (UTC); ``runs/latest`` points to it. Raises UsageError if
    ``root`` can't be written."""
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    for attempt in range(1, 1000):
        workspace = Workspace(root.resolve(), started if attempt == 1 else f"{started}-{attempt}")
        try:
            workspace.run.mkdir(parents=True)
            break
        except FileExistsError:
            continue  # another run began in the same second
        except OSError as error:
            raise UsageError(f"workspace {root} can't be written: {error.strerror}; choose --workspace-path") from error
    workspace.logs.mkdir()
    point_latest_to(workspace)
    return workspace


def point_latest_to(workspace: Workspace) -> None:
    """Makes ``runs/latest`` the link to this run."""
    link = workspace.run.parent / f".latest.{os.getpid()}"
    link.symlink_to(workspace.run_name)
    link.replace(workspace.run.parent / "latest")
