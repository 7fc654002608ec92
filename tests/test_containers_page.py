"""docs/containers.md: its commands are valid, and its images are those of the configurations."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.spec import LABEL
from runner.__main__ import read_command_line
from runner.config.experiment import TritonLaunchMode
from runner.config.run import load_config

TEXT = (ROOT / "docs" / "containers.md").read_text()
LINES = [
    line.strip()
    for block in re.findall(r"^```bash\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]
RUNS = [line.removeprefix("python -m runner ") for line in LINES if line.startswith("python -m runner ")]
SCRIPTS = [line.split()[-1] for line in LINES if "scripts/docker/" in line]  # tests/scripts has what they do
ENGINE = [line for line in LINES if line.startswith("docker ")]


def test_commands_of_the_page_are_all_of_tested_kinds() -> None:
    assert len(RUNS) + len(SCRIPTS) + len(ENGINE) == len(LINES)


@pytest.mark.parametrize("options", RUNS)
def test_runner_accepts_the_command_of_the_page(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config, numbers, _ = read_command_line(shlex.split(options))
    modes = {config.launch_mode_of(config.configurations[number - 1]) for number in numbers}
    assert modes == {TritonLaunchMode.REMOTE if "remote" in options else TritonLaunchMode.DOCKER}


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_of_the_page_exists(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_cleanup_commands_use_the_right_label_and_names() -> None:
    containers, images = ENGINE
    assert f"label={LABEL})" in containers
    names = {"wide-deep-tritonserver", "wide-deep-converter"}
    assert set(re.findall(r"--quiet (wide-deep-\w+)", images)) == names


def test_launch_modes_all_have_a_row() -> None:
    table = TEXT.partition("\n\nThe keys of each mode")[0]
    assert re.findall(r"^\| `(\w+)` \| ", table, flags=re.MULTILINE) == [str(mode) for mode in TritonLaunchMode]


@pytest.mark.parametrize("path", sorted((ROOT / "runner").glob("config_NVIDIA-*.yaml")), ids=lambda path: path.stem)
def test_images_of_the_gpu_hosts_are_explained(path: Path) -> None:
    config = load_config(path)
    images = {config.triton_image(item) for item in config.configurations} - {None}
    assert images
    for image in images:
        assert f"| tritonserver {re.search(r':(.*)-py3', image or '')[1]} |" in TEXT  # type: ignore[index]
