"""The C++ host's number of cores: a container with a limit of CPU time has no more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployment_toolkit.cpp_host import library
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.errors import BuildError
from deployment_toolkit.process import environment

ALL = len(os.sched_getaffinity(0))
V1 = "9:cpuset:/pod\n4:cpuacct,cpu:/pod/one\n1:name=systemd:/pod\n"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Program that prints the number by given files."""
    try:
        compiler = Compiler.find(environment(prepend={}))
    except BuildError as error:
        pytest.skip(str(error))
    path = tmp_path_factory.mktemp("cores") / "cores"
    sources = [Path(__file__).with_name("cores.cpp"), library._SOURCES / "cores.cpp"]
    options = ["-std=c++17", f"-I{library._SOURCES}", "-o", str(path)]
    subprocess.run([*compiler.command, *options, *map(str, sources)], check=True)
    return path


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),  # a container, cgroup v2
        ("0::/pod/one\n", {"pod/one/cpu.max": "50000 100000\n"}, 1),
        ("0::/pod/one\n", {"pod/one/cpu.max": "max 100000\n", "cpu.max": "99000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": f"{(ALL - 1) * 100000 + 1000} 100000\n"}, ALL),  # a part of a core counts
        ("0::/\n", {"cpu.max": "max 100000\n"}, ALL),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, min(ALL, 99)),
        (V1, {"cpuacct,cpu/cpu.cfs_quota_us": "100000\n", "cpuacct,cpu/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/pod/one/cpu.cfs_quota_us": "25000\n", "cpu/pod/one/cpu.cfs_period_us": "100000\n"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, ALL),
        (V1, {"cpu.max": "100000 100000\n"}, ALL),  # not this process's
        ("nonsense\n", {"cpu.max": "100000 100000\n"}, ALL),
    ],
)
def test_cores_are_those_that_the_limit_pays_for(
    groups: str, files: Mapping[str, str], cores: int, program: Path, tmp_path: Path
) -> None:
    (tmp_path / "groups").write_text(groups)
    for name, text in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(text)
    command = [program, tmp_path / "groups", tmp_path / "mount"]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) == cores
