"""The measured points beside a performance CSV: what they depend on, so that a sweep that was stopped goes on.

Beside ``NAME.csv`` lies ``NAME.origin.json``: the origin of its rows, and digests of the rows before and after the last
write. It is written before the CSV. So at any moment the CSV is one of the two, and a CSV that somebody else wrote or
changed is neither.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.deploying.model_config import read_config
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.texts import read_json
from deployment_toolkit.results.performance import (
    BATCH,
    CONCURRENCY,
    PerformanceRow,
    performance_cells,
    read_performance,
    write_performance,
)
from deployment_toolkit.sameness.code import code_digest
from deployment_toolkit.sameness.command import Origin, command_origin
from deployment_toolkit.sameness.host import other_features, read_host
from deployment_toolkit.server_access.url import ServerUrl

logger = logging.getLogger("performance")

_HOST = "host"
_CONFIG = "config.pbtxt"
# They say which points, in which time, where to write them, and where a server of this model is now.
_OF_NO_POINT = (
    *("--batch-sizes", "--concurrency", "--time-budget-s", "--result-path", "--resume"),
    *("--server-url", "--model-repository"),
)
_SERVING = ("python_host.py", "cpp_host/library.py", "triton_server/local.py")


def has_model(repository: Path, name: str) -> bool:
    """True if a model repository holds a model with a configuration."""
    return (repository / name / _CONFIG).is_file()


def point_origin(command: Sequence[str], repository: Path, model_name: str, url: ServerUrl) -> Origin:
    """Origin of a measured point: the command's options, the content of the model in the server's repository, with that
    of the models an ensemble is made of, the protocol, the code that measures and serves, and this host. Raises
    UsageError, DataError or ModelError if the model's files are missing or can't be read."""
    server = f"{url.scheme}{'s' if url.secure else ''}://{url.pinned.host}"
    origin = command_origin([command], without=_OF_NO_POINT, own=[])
    serving = code_digest(ROOT / "deployment_toolkit" / name for name in _SERVING)
    model = model_digest(repository, model_name)
    return Origin({**origin.parts, "model": model, "server": server, "serving code": serving, _HOST: read_host()})


class MeasuredPoints:
    """The rows of one performance CSV. Without ``origin`` nothing can be kept, and only the CSV is written."""

    def __init__(self, path: Path, origin: Origin | None) -> None:
        self._path = path
        self._origin = origin
        self._written = ""

    def kept(self, points: Sequence[tuple[int, int]]) -> list[PerformanceRow]:
        """The rows of these points, (batch, concurrency), that were measured with the same origin; a CSV of another is
        moved to ``NAME.earlier.csv``. Raises UsageError if they were measured on another host, so that they are neither
        mixed nor lost."""
        if self._origin is None or not self._path.is_file():
            return []
        noted = self._noted()
        if not noted:
            return self._set_aside("nothing tells what it was measured with")
        earlier = noted.get("origin")
        changed = self._origin.changed(earlier)
        if _HOST in changed and isinstance(earlier, dict):
            told = ", ".join(other_features(earlier.get(_HOST)))
            raise UsageError(
                f"--resume: {self._path} was measured on another host ({told}): measure into another --result-path"
            )
        if changed:
            return self._set_aside(f"it was made with other {', '.join(changed)}")
        rows = read_performance(self._path)
        if _digest(rows) not in str(noted.get("rows")):
            return self._set_aside("it was changed after it was measured")
        self._written = _digest(rows)
        return [row for row in rows if (row[BATCH], row[CONCURRENCY]) in points]

    def write(self, rows: Sequence[PerformanceRow]) -> None:
        """Writes all rows measured so far in place of the CSV."""
        if self._origin is not None:
            if not self._written:
                self._path.unlink(missing_ok=True)  # rows of another origin, which no note describes from here on
            digests = [self._written, _digest(rows)]
            note = {"origin": self._origin.parts, "rows": [digest for digest in digests if digest]}
            write_text(self._note, json.dumps(note, indent=1))
            self._written = digests[1]
        write_performance(self._path, rows)

    def _set_aside(self, reason: str) -> list[PerformanceRow]:
        earlier = self._path.with_suffix(".earlier.csv")
        self._path.replace(earlier)
        logger.info("%s is measured again, since %s; what it held is in %s", self._path, reason, earlier.name)
        return []

    @property
    def _note(self) -> Path:
        return self._path.with_suffix(".origin.json")

    def _noted(self) -> Mapping[str, object]:
        if not self._note.is_file():
            return {}
        try:
            found = read_json(self._note)
        except DataError as error:
            logger.warning("%s can't be read, so everything is measured again: %s", self._note, error)
            return {}
        return found if isinstance(found, dict) else {}


def _digest(rows: Sequence[PerformanceRow]) -> str:
    cells = sorted(json.dumps(performance_cells(row), sort_keys=True) for row in rows)
    return hashlib.sha256("\n".join(cells).encode()).hexdigest()[:16]


def model_digest(repository: Path, name: str) -> str:
    """Digest of a model's files, and of those of the models that it is an ensemble of."""
    folder = repository / name
    if not has_model(repository, name):
        raise UsageError(f"--model-repository {repository} has no {name}/{_CONFIG}: give the server's repository")
    digest = hashlib.sha256()
    for file in sorted(item for item in folder.rglob("*") if item.is_file() and item.suffix != ".pyc"):
        digest.update(f"{file.relative_to(folder)}\0{fingerprint.of_path(file)}\n".encode())
    for step in read_config(folder / _CONFIG).ensemble_scheduling.step:
        digest.update(f"{step.model_name}\0{model_digest(repository, step.model_name)}\n".encode())
    return digest.hexdigest()[:16]
