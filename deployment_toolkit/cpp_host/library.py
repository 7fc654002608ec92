"""Shared library of the C++ host, compiled once for its sources, a compiler and the installed inference libraries."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.cpp_host.compiler import Compiler, Library
from deployment_toolkit.errors import BuildError
from deployment_toolkit.process import environment

BACKEND = "cpp_host"  # its name in a model's configuration
LIBRARY_NAME = f"libtriton_{BACKEND}.so"  # file name that Triton requires

_SOURCES = Path(__file__).parent / "src"
_CACHE = Path(__file__).parent / "build"
_WARNINGS = ("-Wall", "-Wextra")
_CODE = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden", "-pthread")
# The server has another libstdc++, so this one is linked statically. Threads of the inference libraries outlive the
# models, so the library is never unloaded.
_LINK = ("-shared", "-static-libstdc++", "-static-libgcc", "-Wl,-z,nodelete", "-ldl")


@dataclass(frozen=True)
class EngineLibrary:
    """Inference library that is in a Python package, and that the host opens when a model needs it.

    The host's code for it is in ``folder``; its path is the macro ``<FOLDER>_LIBRARY`` there. ``include`` has its
    headers; it is empty for a library whose functions the folder declares itself.
    """

    folder: str
    package: str
    library: str  # pattern of its file in the package
    include: str = ""

    def find(self) -> tuple[Path, Path] | None:
        """The package's folder and the library in it; None if it is not installed."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            return None
        # Resolved, so that a link to the environment is no reason to compile anew.
        package = Path(spec.origin).parent.resolve()
        library = next(iter(sorted(package.glob(self.library))), None)
        return None if library is None else (package, library)

    def arguments(self, package: Path, library: Path) -> Iterator[str]:
        """Arguments of the compiler."""
        literal = str(library).replace("\\", "\\\\").replace('"', '\\"')
        yield f'-D{self.folder.upper()}_LIBRARY="{literal}"'
        if self.include:
            yield from ("-isystem", str(package / self.include))


LIBRARIES = (
    EngineLibrary("onnxruntime", "onnxruntime", "capi/libonnxruntime.so*"),
    EngineLibrary("openvino", "openvino", "libs/libopenvino_c.so*", "include"),
    EngineLibrary("tensorflow", "tensorflow", "libtensorflow_cc.so*", "include"),
)


def build_library(env: Mapping[str, str] | None = None) -> Path:
    """Path of the host, compiled if necessary. ``env``, by default this process's environment, has PATH and CXX.

    The host gets the engines whose libraries are installed. Raises BuildError if there is no compiler, none of the
    libraries is installed, the sources don't compile or the folder of this module can't be written.
    """
    return _library().build(env)


def can_build() -> bool:
    """True if the host is compiled already, or if there are a compiler and an inference library."""
    try:
        return _library().find() is not None or bool(Compiler.find(environment(prepend={})))
    except BuildError:
        return False


def _library() -> Library:
    arguments, versions, left_out = [*_CODE, *_WARNINGS, *_LINK], [], []
    for engine in LIBRARIES:
        found = engine.find()
        if found is None:
            left_out.append(f"engines/{engine.folder}")
        else:
            arguments += engine.arguments(*found)
            versions.append(f"{engine.folder} {found[1].stat().st_size}")
    if not versions:
        raise BuildError("the C++ host needs an inference library: run scripts/install.sh")
    return Library("the C++ host", LIBRARY_NAME, _SOURCES, _CACHE, arguments, str(versions), left_out)
