"""What is known of a roll-out, on disk beside the repository, so that a killed command can be continued or taken back.

``<repository>.rollout/<model>/state.json`` has the record, ``before/`` the configuration and the warm-up files that the
model had, ``gate/`` the answers and the tables of the gate.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files.atomic import remove, write_text
from deployment_toolkit.files.locks import sole_user
from deployment_toolkit.files.texts import read_json
from deployment_toolkit.server_access.url import ServerUrl

_CANDIDATE = "-candidate"


class RolloutStep(Mnemonic):
    """Where a roll-out is. The steps in -ing are those of a command at work, or of one that was killed."""

    STAGING = "staging"
    STAGED = "staged"
    GATED = "gated"
    PROMOTING = "promoting"
    PROMOTED = "promoted"
    RETURNING = "returning"
    FINISHING = "finishing"


@dataclass(frozen=True)
class GateRecord:
    """The gate that the candidate has passed: the reference dump, the dump with the inputs of its rows, the limits, and
    how it was asked."""

    reference: str
    rows_from: str
    rows: int
    atol: float
    rtol: float
    request_rows: list[int] | None
    in_flight: int
    response_wait_time_s: float


@dataclass(frozen=True)
class RolloutRecord:
    """``source`` is the candidate's folder as it was given, ``digest`` that of its files and its configuration.
    ``alone``: the new version was promoted without the old ones beside it."""

    source: str
    digest: str
    old_versions: tuple[int, ...]
    new_version: int
    step: RolloutStep
    alone: bool = False
    gate: GateRecord | None = None

    def to_json(self) -> str:
        """Text of ``state.json``."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_plain(cls, plain: Any) -> RolloutRecord:
        """Inverse of ``to_json``, from the parsed JSON. Raises ValueError, TypeError or KeyError for anything else."""
        gate = plain.pop("gate")
        old, step = tuple(map(int, plain.pop("old_versions"))), RolloutStep(plain.pop("step"))
        return cls(**plain, old_versions=old, step=step, gate=None if gate is None else GateRecord(**gate))

    @property
    def served(self) -> tuple[int, ...]:
        """Versions that are served once the new one is promoted."""
        return (self.new_version,) if self.alone else (*self.old_versions, self.new_version)


@dataclass(frozen=True)
class Site:
    """Where a roll-out takes place: the model ``name`` in ``repository``, an absolute path, and the server that serves
    it."""

    repository: Path
    name: str
    url: ServerUrl
    load_timeout_s: float

    @property
    def candidate_name(self) -> str:
        """Name under which the candidate is served until it is promoted."""
        return f"{self.name}{_CANDIDATE}"

    @property
    def live(self) -> Path:
        """Folder of the model."""
        return self.repository / self.name

    @property
    def staged(self) -> Path:
        """Folder of the candidate, in the same repository."""
        return self.repository / self.candidate_name

    @property
    def folder(self) -> Path:
        """Folder of the record."""
        return self.repository.with_name(f"{self.repository.name}.rollout") / self.name

    @property
    def before(self) -> Path:
        """Folder of the configuration and the warm-up files that the model had."""
        return self.folder / "before"

    @property
    def gate(self) -> Path:
        """Folder of the gate's results."""
        return self.folder / "gate"

    @property
    def _state(self) -> Path:
        return self.folder / "state.json"

    def record(self) -> RolloutRecord | None:
        """The record; None if no roll-out is under way. Raises DataError for a damaged one."""
        if not self._state.exists():
            return None
        try:
            return RolloutRecord.from_plain(read_json(self._state))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"{self._state} is no record of a roll-out ({type(error).__name__}: {error}): look at what the server "
                f"serves, and remove {self.folder} and {self.staged} by hand"
            ) from error

    def keep(self, record: RolloutRecord, step: RolloutStep | None = None, **changes: Any) -> RolloutRecord:
        """Writes the record, with another step and other changes, and returns it."""
        changed = dataclasses.replace(record, step=step or record.step, **changes)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._state, changed.to_json())
        return changed

    def forget(self) -> None:
        """Removes the record and what is kept with it."""
        self._state.unlink(missing_ok=True)  # the first, so that a rest is no record
        remove(self.folder)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()  # if no other model has a record

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other commands away from the model, and removes a folder of the record in which there is none. Raises
        UsageError if there is no such model or another command is at work."""
        with contextlib.ExitStack() as alone:
            try:
                other = f"another command is at work on the roll-out of model {self.name}"
                alone.enter_context(sole_user(self.live, other, "wait for it"))
            except OSError as error:
                raise UsageError(
                    f"there is no model {self.name} in {self.repository} ({error.strerror}): a roll-out replaces a "
                    "model that is served, deploy a first one with model-navigator triton-config-model"
                ) from error
            if not self._state.exists():
                remove(self.folder)  # of a command that was killed as a roll-out began or ended
            yield
