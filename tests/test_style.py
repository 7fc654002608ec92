"""Style and types of the whole project."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deployment_toolkit.checkout import ROOT


@pytest.mark.parametrize("command", ["ruff format --check .", "ruff check .", "mypy"])
def test_project_passes(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
