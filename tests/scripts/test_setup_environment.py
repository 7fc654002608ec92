from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT

SCRIPT = ROOT / "scripts" / "setup_environment.sh"
NAMES = ("DATASETS_DIR", "WORKSPACE_DIR", "CHECKPOINTS_DIR", "MODEL_REPOSITORY_PATH", "SHARED_DIR", "MODEL_NAME")
PRINT = "; printf '%s\\n' " + " ".join(f'"${name}"' for name in NAMES)


@pytest.fixture
def above(tmp_path: Path) -> Path:
    """The folder above a checkout named ``triton``, with a space in its path."""
    folder = tmp_path / "the folder above"
    (folder / "triton" / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, folder / "triton" / "scripts")
    return folder


def _bash(command: str, folder: Path, **env: str) -> str:
    plain = {"PATH": "/usr/bin:/bin", **env}
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=plain, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _sourced(folder: Path, script: str = "./triton/scripts/setup_environment.sh", **env: str) -> dict[str, str]:
    return dict(zip(NAMES, _bash(f"source {script}{PRINT}", folder, **env).splitlines(), strict=True))


def test_folders_are_below_the_current_folder(above: Path) -> None:
    workspace = above / "runner_workspace"
    expected = {
        "DATASETS_DIR": str(above / "datasets"),
        "WORKSPACE_DIR": str(workspace),
        "CHECKPOINTS_DIR": str(workspace / "checkpoints"),
        "MODEL_REPOSITORY_PATH": str(workspace / "model_store"),
        "SHARED_DIR": str(workspace / "shared_dir"),
        "MODEL_NAME": "WidenDeep",
    }
    assert _sourced(above) == expected
    assert all(Path(expected[name]).is_dir() for name in NAMES[:-1])
    root = above / "triton"
    assert _sourced(root, "scripts/setup_environment.sh")["DATASETS_DIR"] == str(root / "datasets")
    assert not (root / "triton").exists()


def test_variables_that_are_set_stay(above: Path, tmp_path: Path) -> None:
    given = {name: str(tmp_path / "mine" / name) for name in NAMES}
    assert _sourced(above, **given) == given
    assert _sourced(above, WORKDIR=str(tmp_path))["SHARED_DIR"] == str(tmp_path / "runner_workspace" / "shared_dir")
    moved = _sourced(above, WORKSPACE_DIR=str(tmp_path / "w"))
    assert moved["CHECKPOINTS_DIR"] == str(tmp_path / "w" / "checkpoints")
    assert not (above / "runner_workspace").exists()


def test_checkout_environment_is_first_on_the_path_and_only_once(above: Path) -> None:
    python = above / "triton" / ".venv" / "bin" / "python"
    source = "source ./triton/scripts/setup_environment.sh"
    assert _bash(f"{source}; echo $PATH", above) == "/usr/bin:/bin\n"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    assert (
        _bash(f"{source}; {source}; echo $PATH; type -P python", above) == f"{python.parent}:/usr/bin:/bin\n{python}\n"
    )


@pytest.mark.parametrize("options", ["set +eu", "set -euo pipefail"])
def test_shell_is_unchanged_after_sourcing(above: Path, options: str) -> None:
    state = (
        "{ set +o; shopt; declare -F; compgen -v | grep -v -e '^BASH' -e '^FUNCNAME' -e '^PIPESTATUS' -e '^_$'; pwd; }"
    )
    names = "|".join(NAMES)
    printed = _bash(
        f"{options}; {state} >before; source triton/scripts/setup_environment.sh; {state} >after; diff before after | "
        f"grep '^[<>]' | grep -vxE '> ({names})' || true",
        above,
    )
    assert printed == ""


def test_setup_environment_run_as_a_program_says_how_to_source_it(above: Path) -> None:
    script = above / "triton" / "scripts" / "setup_environment.sh"
    assert os.access(SCRIPT, os.X_OK)
    done = subprocess.run([str(script)], cwd=above, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"call it as  source {script}" in done.stderr
    assert not (above / "datasets").exists()
