"""The part of a run that begins now: its first, or the next one of a run that goes on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.run import RunConfig
from runner.killed_runs import marked_as_resumed, marked_as_running
from runner.resuming.finding import RunToResume
from runner.resuming.ledger import RunLedger
from runner.workspace import Workspace, create_workspace, point_latest_to

logger = logging.getLogger("runner")


@dataclass(frozen=True)
class BegunPart:
    """Folders and ledger of the run; ``earlier`` is its record before this part, None for a new run."""

    workspace: Workspace
    ledger: RunLedger
    earlier: Mapping[str, Any] | None = None


@contextlib.contextmanager
def begun(
    resumed: RunToResume | None, root: Path, arguments: Sequence[str], config: RunConfig, *, keeps_models: bool
) -> Iterator[BegunPart]:
    """Creates a run in the workspace ``root``, or goes on with ``resumed``; it is marked as running inside the block.
    Raises UsageError if it is running already."""
    workspace = resumed.workspace if resumed else create_workspace(root)
    logger.info("run %s%s, results in %s", workspace.run_name, " goes on" if resumed else "", workspace.run)
    if resumed is None:
        with marked_as_running(workspace, keeps_models=keeps_models):
            yield BegunPart(workspace, RunLedger.begin(workspace.run, arguments))
        return
    with marked_as_resumed(workspace, keeps_models=keeps_models):
        point_latest_to(workspace)
        resumed.tell_changes(config)
        resumed.ledger.begin_again(arguments)
        yield BegunPart(workspace, resumed.ledger, resumed.earlier)
