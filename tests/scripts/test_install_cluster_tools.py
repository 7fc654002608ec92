"""scripts/install_cluster_tools.sh where there is nothing to do, and where it can do nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from tests.cluster_tools import needs_cluster_tools

SCRIPT = Path("scripts/install_cluster_tools.sh")


def install(root: Path, ci: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CI": ci}
    return subprocess.run([root / SCRIPT], env=environment, capture_output=True, text=True)


@needs_cluster_tools
def test_installed_tools_are_left_alone() -> None:
    done = install(ROOT, "true")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("ci", "code"), [("", 0), ("true", 1)])
def test_without_an_environment_the_tools_are_left_out(tmp_path: Path, ci: str, code: int) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / SCRIPT, tmp_path / SCRIPT)
    done = install(tmp_path, ci)
    assert done.returncode == code
    assert "there is no .venv: run scripts/install.sh first" in done.stdout + done.stderr
