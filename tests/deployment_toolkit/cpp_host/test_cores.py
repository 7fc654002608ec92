"""The C++ host's number of cores: a container with a limit of CPU time has no more."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from deployment_toolkit.cpp_host import library
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.errors import BuildError
from deployment_toolkit.process import environment
from tests.cgroup_files import CASES, write_groups


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


@pytest.mark.parametrize(("groups", "files", "cores"), CASES)
def test_cores_are_those_that_the_limit_pays_for(
    groups: str, files: Mapping[str, str], cores: int, program: Path, tmp_path: Path
) -> None:
    command = [program, *write_groups(tmp_path, groups, files)]
    assert int(subprocess.run(command, capture_output=True, check=True).stdout) == cores
