"""Folders of a run. Each run has its own; nothing of an earlier run is touched but the link ``runs/latest``."""

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
        """Results of the experiment's ensemble; there only if there is one."""
        return self.results / "ensemble"

    @property
    def exported(self) -> Path:
        """The exported model; its suffix says its format."""
        return self.shared / "exported_model"

    @property
    def converted(self) -> Path:
        """The converted model."""
        return self.shared / "converted_model"

    @property
    def dumps(self) -> Path:
        """Dumps of the correctness stage, one folder each."""
        return self.shared / "dumps"


@dataclass(frozen=True)
class Workspace:
    """``root/checkpoints``, and of one run ``root/runs/<UTC time>``, ``root/shared_dir/<UTC time>`` and
    ``root/model_store/<UTC time>``."""

    root: Path
    run_name: str

    @property
    def run(self) -> Path:
        """Results of this run."""
        return self.root / "runs" / self.run_name

    @property
    def logs(self) -> Path:
        """A log per command, and the servers' logs."""
        return self.run / "logs"

    def checkpoint(self, name: str) -> Path:
        """Folder of a checkpoint, shared by all runs."""
        return self.root / "checkpoints" / name / "checkpoint"

    def experiment(self, number: int) -> ExperimentFolders:
        """Folders of experiment ``number``, made if they aren't there."""
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
        """Deletes what only this run needed: its models and dumps."""
        remove(self.root / "shared_dir" / self.run_name)
        remove(self.root / "model_store" / self.run_name)


def create_workspace(root: Path) -> Workspace:
    """A new run's folders, named after the time (UTC); ``runs/latest`` points at it. Raises UsageError if ``root``
    can't be written."""
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
    link = workspace.run.parent / f".latest.{os.getpid()}"
    link.symlink_to(workspace.run_name)
    link.replace(workspace.run.parent / "latest")
    return workspace
