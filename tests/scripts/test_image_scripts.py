"""Scripts that the Dockerfile and continuous integration call before Python exists, with mocks of the programs they
call."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT

MOCK = '#!/bin/bash\nprintf "%s\\n" "$@" >>"$MOCK_LOG"\n'
NVIDIA = {"TRITON_SERVER_VERSION": "2.59.0", "CUDA_VERSION": "12.9.1.010"}
ENGINE_PROGRAMS = ("podman", "runc", "buildah", "debootstrap")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ({**NVIDIA, "TRT_VERSION": "10.11.0.33"}, "tensorrt-cu12==10.11.0.*"),
        ({**NVIDIA, "TRT_VERSION": "10.13.3.9+cuda13.0"}, "tensorrt-cu13==10.13.3.*"),
        ({**NVIDIA, "TRT_VERSION": "10.3.0.26-1+cuda12.6"}, "tensorrt-cu12==10.3.0.*"),
        ({**NVIDIA, "TRT_VERSION": "8.6.3.1+cuda12.2"}, None),  # no package of this project's API
        ({"TRT_VERSION": "8.6.3.1"}, None),  # NVIDIA's TensorFlow, which serves nothing
        ({}, None),
    ],
)
def test_image_gets_the_tensorrt_version_of_its_server(
    image: dict[str, str], wanted: str | None, tmp_path: Path
) -> None:
    _write(tmp_path / ".venv" / "bin" / "python", MOCK)
    log = tmp_path / "log"
    command = ["bash", str(ROOT / "scripts" / "docker" / "install_tensorrt.sh")]
    env = {"PATH": os.environ["PATH"], "MOCK_LOG": str(log), **image}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("no plans are made here" in done.stdout) == (wanted is None and bool(image.get("TRITON_SERVER_VERSION")))
    if wanted is None:
        assert not log.exists()
    else:
        arguments = log.read_text().splitlines()
        assert arguments[:3] == ["-m", "pip", "install"] and arguments[-1] == wanted


@pytest.mark.parametrize(
    ("there", "docker_code", "uid", "said"),
    [
        (("docker",), 0, 1000, "Docker's engine answers"),
        (("docker", "apt-get"), 1, 0, "installing podman runc buildah debootstrap"),
        ((*ENGINE_PROGRAMS, "apt-get"), 1, 0, "podman and debootstrap are there"),
        (("podman", "runc", "buildah", "apt-get"), 1, 0, "installing debootstrap"),
        (("apt-get",), 1, 1000, "only root can install podman runc buildah debootstrap"),
        ((), 1, 0, "there is no apt-get to install podman runc buildah debootstrap"),
    ],
)
def test_container_engine_is_installed_where_possible(
    there: tuple[str, ...], docker_code: int, uid: int, said: str, tmp_path: Path
) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for name in there:
        _write(
            tmp_path / "bin" / name, f"#!{bash}\necho {name} $* >>$MOCK_LOG; exit {docker_code * (name == 'docker')}\n"
        )
    _write(tmp_path / "bin" / "id", f"#!{bash}\necho {uid}\n")
    # Without the folders of the system, where this machine may have an engine.
    script = (ROOT / "scripts" / "install_container_engine.sh").read_text().replace(":/usr/sbin:/sbin", "")
    log = tmp_path / "log"
    env = {"PATH": str(tmp_path / "bin"), "MOCK_LOG": str(log)}
    done = subprocess.run([bash, "-c", script], env=env, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("containers: ") and said in line
    called = log.read_text().splitlines() if log.exists() else []
    installed = [call for call in called if call.startswith("apt-get install")]
    assert len(installed) == ("installing" in said)
    assert all(call.endswith(said.removeprefix("installing ")) for call in installed)
