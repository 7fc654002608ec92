"""Shared library of the C++ host, compiled once for its sources, a compiler and an OpenVINO."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.cpp_host.compiler import Library
from deployment_toolkit.errors import BuildError

BACKEND = "cpp_host"  # its name in a model's configuration
LIBRARY_NAME = f"libtriton_{BACKEND}.so"  # file name that Triton requires

_SOURCES = Path(__file__).parent / "src"
_CACHE = Path(__file__).parent / "build"
_WARNINGS = ("-Wall", "-Wextra")
_CODE = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden")
# The server has another libstdc++, so this one is linked statically. OpenVINO's threads outlive the models, so the
# library is never unloaded.
_LINK = ("-shared", "-static-libstdc++", "-static-libgcc", "-Wl,-z,nodelete")


@dataclass(frozen=True)
class OpenVino:
    """Files of the openvino wheel that the host is compiled and linked against."""

    include: Path
    library: Path
    version: str

    @classmethod
    def find(cls) -> OpenVino:
        """Finds the wheel. Raises BuildError if the package isn't installed, or has no C library."""
        spec = importlib.util.find_spec("openvino")
        if spec is None or spec.origin is None:
            raise BuildError("the C++ host needs OpenVINO: pip install -r requirements.txt")
        package = Path(spec.origin).parent
        library = next(iter(sorted((package / "libs").glob("libopenvino_c.so*"))), None)
        if library is None:
            raise BuildError(f"{package} has no libopenvino_c.so: install the wheel of openvino (requirements.txt)")
        return cls(package / "include", library, importlib.metadata.version("openvino"))


def build_library(env: Mapping[str, str] | None = None) -> Path:
    """Path of the host, compiled if necessary. ``env``, by default this process's environment, has PATH and CXX.

    Raises BuildError if there is no compiler, OpenVINO isn't installed, the sources don't compile or the folder of this
    module can't be written.
    """
    openvino = OpenVino.find()
    arguments = [*_CODE, *_WARNINGS, *_LINK, "-isystem", str(openvino.include)]
    arguments += [str(openvino.library), f"-Wl,-rpath,{openvino.library.parent}"]
    return Library("the C++ host", LIBRARY_NAME, _SOURCES, _CACHE, arguments, openvino.version).build(env)
