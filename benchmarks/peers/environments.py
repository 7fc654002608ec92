"""Virtual environments of the peers, made once from their pinned requirements."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from deployment_toolkit.errors import PerformanceError, ProcessError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.process import run

_STAMP = "requirements.sha256"
_TIMEOUT_S = 600


def make_environment(requirements: Path, folder: Path) -> Path:
    """Makes an environment in ``folder`` with exactly these requirements, wheels only; returns its interpreter. An
    environment from the same requirements is reused.

    Raises PerformanceError if the requirements can't be installed.
    """
    digest = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    python = folder / "bin" / "python"
    stamp = folder / _STAMP
    if stamp.is_file() and stamp.read_text() == digest:
        return python
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    try:
        run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], timeout_s=_TIMEOUT_S, log_path=log)
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install"]
        pip += ["--disable-pip-version-check", "--no-input"]
        wheels = ["--only-binary", ":all:", "--no-deps", "--requirement", str(requirements)]
        run([*pip, *wheels], timeout_s=_TIMEOUT_S, log_path=log)
    except ProcessError as error:
        raise PerformanceError(f"{requirements} can't be installed: {error}; log: {log}") from error
    with replace_when_complete(stamp) as beside:
        beside.write_text(digest)
    return python


def pinned_version(requirements: Path, package: str) -> str:
    """Release of a package in a requirements file."""
    lines = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
    return next(line.partition("==")[2] for line in lines if line.partition("==")[0].lower() == package)
