from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "install.sh"
TOOLS = ("bash", "cat", "sha256sum", "cut", "grep", "dirname")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without a .venv, and a folder ``bin`` of the tools that a minimal system has."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    for name in ("requirements.txt", "requirements-dev.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(SCRIPT.parent.parent / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def _install(checkout: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "bash"), str(checkout / "scripts" / "install.sh")],
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_an_interpreter_its_package_is_named(checkout: Path) -> None:
    done = _install(checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python 3.11 found")
    assert "apt install python3.11 python3.11-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_without_a_library_its_package_is_named(checkout: Path) -> None:
    (checkout / "bin" / "ldconfig").write_text("#!/bin/bash\necho 'libstdc++.so.6 libssl.so.3'\n")
    (checkout / "bin" / "ldconfig").chmod(0o755)
    (checkout / "bin" / "python3.11").write_text(
        f'#!/bin/bash\ncase "$*" in *LIBDIR*) echo /nowhere ;; *) exec {sys.executable} "$@" ;; esac\n'
    )
    (checkout / "bin" / "python3.11").chmod(0o755)
    done = _install(checkout)
    assert done.returncode == 1
    assert "libpython3.11.so.1.0 is missing" in done.stderr
    assert "apt install libpython3.11" in done.stderr
    assert not (checkout / ".venv").exists()
