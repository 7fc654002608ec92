"""The C++ host's SHA-256, with the CPU's instructions and without."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.cpp_host import library
from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.errors import BuildError
from deployment_toolkit.process import environment

SIZES = [*range(200), 1000, 4096, 1 << 20]


def test_digests_are_those_of_hashlib(tmp_path: Path) -> None:
    try:
        compiler = Compiler.find(environment(prepend={}))
    except BuildError as error:
        pytest.skip(str(error))
    sources = [Path(__file__).with_name("digests.cpp"), library._SOURCES / "sha256.cpp"]
    options = ["-std=c++17", "-O2", f"-I{library._SOURCES}", "-o", str(tmp_path / "digests")]
    subprocess.run([*compiler.command, *options, *map(str, sources)], check=True)
    data = np.random.default_rng(0).bytes(SIZES[-1])
    done = subprocess.run([tmp_path / "digests", *map(str, SIZES)], input=data, capture_output=True, check=True)
    expected = [hashlib.sha256(data[:size]).hexdigest() for size in SIZES for _ in range(2)]
    assert done.stdout.decode().split() == expected
