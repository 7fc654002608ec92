"""A copy of this checkout, and commands run in it as a user would run them."""

from __future__ import annotations

import fcntl
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (
    ".venv*",
    ".git",
    "runner_workspace",
    "datasets",
    "navigator_workspace",
    "reports",
    "shared",
    "model_store",
    "*.egg-info",
    ".*_cache",
)
DEADLINE_S = 720
Env = Mapping[str, str]


def copy_checkout(folder: Path) -> Path:
    """Copies this checkout to ``folder``, without files that are generated in it."""
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return folder


def run_block(block: str, folder: Path, env: Env) -> None:
    """Runs lines of bash in a folder; they must succeed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


@contextmanager
def server_by_hand(block: str, folder: Path, env: Env) -> Iterator[None]:
    """The server that a line of bash starts, ready, on the default ports. A lock lets only one test run of the machine
    use these ports at a time."""
    ready = folder / "ready"
    with (Path(tempfile.gettempdir()) / "triton_default_ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["bash", "-c", f"exec {block} --ready-file {shlex.quote(str(ready))}"]
        process = subprocess.Popen(command, cwd=folder, env=env)
        try:
            deadline = time.monotonic() + 180  # the C++ host may have to be compiled
            while not ready.exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(30)
            ready.unlink(missing_ok=True)
