from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = ROOT / "scripts" / "install.sh"
BASE = ("requirements-dev.txt", "requirements.txt", "constraints.txt", "pyproject.toml")
MODEL_ANALYZER = ROOT / "requirements-model-analyzer.txt"
# Writes down how it is called; as ``-m venv`` it copies itself, asked for a folder it names its own.
INTERPRETER = """#!{python}
import pathlib, shutil, sys
root = pathlib.Path("{root}")
with (root / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + chr(10))
if "venv" in sys.argv:
    made = pathlib.Path(sys.argv[-1]) / "bin"
    made.mkdir(parents=True)
    shutil.copy(__file__, made / "python")
elif "-c" in sys.argv:
    print(pathlib.Path(__file__).parent)
"""
TOOLS = ("bash", "cat", "sha256sum", "cut", "grep", "dirname")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without a .venv, and a folder ``bin`` of the tools that a minimal system has."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    for name in (*BASE, "requirements-model-analyzer.txt"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def _install(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "bash"), str(checkout / "scripts" / "install.sh"), *options],
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


def test_model_analyzer_lies_over_the_projects_packages(checkout: Path) -> None:
    digest = hashlib.sha256(b"".join((checkout / name).read_bytes() for name in BASE)).hexdigest()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / ".installed").write_text(f"base {digest}\n")
    interpreter = checkout / ".venv" / "bin" / "python"
    interpreter.write_text(INTERPRETER.format(python=sys.executable, root=checkout))
    interpreter.chmod(0o755)
    assert _install(checkout).returncode == 0
    assert not (checkout / "calls.txt").exists() and not (checkout / ".venv-model-analyzer").exists()
    done = _install(checkout, "--model-analyzer")
    assert done.returncode == 0, done.stderr
    assert "-m pip install" in (checkout / "calls.txt").read_text().splitlines()[-1]
    beneath = checkout / ".venv-model-analyzer" / "bin" / "venv_beneath.pth"
    assert beneath.read_text().strip() == str(checkout / ".venv" / "bin")
    (checkout / "calls.txt").unlink()
    assert _install(checkout, "--model-analyzer").returncode == 0
    assert not (checkout / "calls.txt").exists()


def test_an_unknown_option_is_named(checkout: Path) -> None:
    done = _install(checkout, "--model-analyser")
    assert done.returncode == 1
    assert done.stderr == "error: unknown option --model-analyser: use --model-analyzer, --dev or none\n"


def test_model_analyzers_packages_are_pinned_and_hide_none_of_the_projects() -> None:
    pins = _pins(MODEL_ANALYZER)
    assert pins["triton-model-analyzer"] == "1.58.0"
    assert not pins.keys() & (_pins(ROOT / "constraints.txt").keys() | _pins(ROOT / "requirements.txt").keys())
    python = ROOT / ".venv-model-analyzer" / "bin" / "python"
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def _pins(path: Path) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    return {name.partition("[")[0].lower().replace("_", "-"): version for name, version in pins.items()}
