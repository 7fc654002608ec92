"""The README's step by step, as printed, in a copy of the checkout: only the amount of demo data and the length of the
measurements are cut."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_COPIED = (
    ".venv",
    ".git",
    "runner_workspace",
    "datasets",
    "reports",
    "shared",
    "model_store",
    "*.egg-info",
    ".*_cache",
)
CUTS = {
    "--displays 40000": "--displays 400",
    "--batch-sizes 1 1024 4096": "--batch-sizes 1 64",
    "--concurrency 8 64": "--concurrency 8",
    "--warmup": "--retries 0",
    "--measurement-request-count 17": "--measurement-request-count 5",
}
DEADLINE_S = 240


def _blocks(section: str) -> list[str]:
    text = (ROOT / "README.md").read_text()
    chapter = re.split(r"^## ", text, flags=re.MULTILINE)
    found = next(part for part in chapter if part.startswith(section))
    return re.findall(r"^```bash\n(.*?)^```", found, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout without what is made in it."""
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*NOT_COPIED))
    return copy


def _environment() -> dict[str, str]:
    """What ``source .venv/bin/activate`` gives."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "2"}


@contextmanager
def _server(block: str, checkout: Path) -> Iterator[None]:
    ready = checkout / "ready"
    process = subprocess.Popen([*block.split(), "--ready-file", str(ready)], cwd=checkout, env=_environment())
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _run(block: str, checkout: Path) -> None:
    for printed, cut in CUTS.items():
        block = block.replace(printed, cut)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=checkout,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"


def test_the_quick_start_names_scripts_that_are_there() -> None:
    commands = [line for block in _blocks("Quick start") for line in block.splitlines()]
    assert commands == ["./runner/start_CPU.sh", "./scripts/test.sh"]
    assert all(os.access(ROOT / command, os.X_OK) for command in commands)


def test_step_by_step(checkout: Path) -> None:
    data, export_and_convert, server, *with_server = _blocks("Step by step")
    _run(data, checkout)
    _run(export_and_convert, checkout)
    with _server(server, checkout):
        for block in with_server:
            _run(block, checkout)
    with (checkout / "shared" / "correctness.csv").open(newline="") as file:
        assert [row["passed"] for row in csv.DictReader(file)] == ["True", "True"]
    for mode in ("offline", "online"):
        assert (checkout / "shared" / f"triton_performance_{mode}.csv").is_file()
