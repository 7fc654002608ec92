"""scripts/on_debian.sh where it can't run. Continuous integration runs it where it can (.ci/run)."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from runner.config.run import load_config

SCRIPT = ROOT / "scripts" / "on_debian.sh"


def _run(folder: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the script as a user who is not root."""
    folder.joinpath("id").write_text("#!/bin/bash\necho 1000\n")
    folder.joinpath("id").chmod(0o755)
    for tool in ("bash", "dirname"):
        found = shutil.which(tool)
        assert found is not None
        if not (folder / tool).exists():
            (folder / tool).symlink_to(found)
    command = [str(folder / "bash"), str(SCRIPT), *options]
    return subprocess.run(
        command, env={"PATH": str(folder), **env}, capture_output=True, text=True, timeout=20, check=False
    )


@pytest.mark.parametrize(("options", "release"), [((), "trixie"), (("--release", "forky", "true"), "forky")])
def test_left_out_with_a_line_but_not_in_continuous_integration(
    options: tuple[str, ...], release: str, tmp_path: Path
) -> None:
    done = _run(tmp_path, *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"Debian's {release} is NOT TRIED: only root can make a root filesystem\n"
    done = _run(tmp_path, *options, CI="true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: Debian's {release} was not tried: only root can make a root filesystem\n"


def test_its_tests_exist() -> None:
    listed = subprocess.run(
        ["bash", "-c", f"{_assignments()}; echo ${{checks[@]}}"], capture_output=True, text=True, check=True
    )
    paths = listed.stdout.split()
    assert len(paths) > 8 and all((ROOT / path).exists() for path in paths)


def test_its_configuration_is_small_but_whole() -> None:
    assert "--config-path tests/small_run.yaml" in SCRIPT.read_text()
    config = load_config(ROOT / "tests" / "small_run.yaml")
    assert [experiment.parameters.format for experiment in config.configurations] == ["tf-savedmodel", "onnx"]


def _assignments() -> str:
    """Lines of the script that name its tests."""
    found = re.search(r"^toolkit=.*?\)$", SCRIPT.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]
