"""The C++ host as a shared library, compiled once for its sources, a compiler and an OpenVINO."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.cpp_host.compiler import Compiler
from deployment_toolkit.errors import BuildError, DataError, ProcessError
from deployment_toolkit.files import replace_when_complete
from deployment_toolkit.process import environment, run

logger = logging.getLogger("cpp-host")

BACKEND = "cpp_host"  # its name in a model's configuration
LIBRARY_NAME = f"libtriton_{BACKEND}.so"  # where Triton looks for it

_SOURCES = Path(__file__).parent / "src"
_CACHE = Path(__file__).parent / "build"
_TIMEOUT_S = 600.0
_WARNINGS = ("-Wall", "-Wextra")
_CODE = ("-std=c++17", "-O3", "-fPIC", "-fvisibility=hidden")
# Of libstdc++ the server has one of its own: ours is inside. The threads of OpenVINO outlive the models: it stays.
_LINK = ("-shared", "-static-libstdc++", "-static-libgcc", "-Wl,-z,nodelete")


@dataclass(frozen=True)
class OpenVino:
    """What the host is compiled and linked against: the files of the openvino wheel."""

    include: Path
    library: Path
    version: str

    @classmethod
    def find(cls) -> OpenVino:
        """Raises BuildError if the package isn't there, or has no C library."""
        spec = importlib.util.find_spec("openvino")
        if spec is None or spec.origin is None:
            raise BuildError("the C++ host needs OpenVINO: pip install -r requirements.txt")
        package = Path(spec.origin).parent
        library = next(iter(sorted((package / "libs").glob("libopenvino_c.so*"))), None)
        if library is None:
            raise BuildError(f"{package} has no libopenvino_c.so: install the wheel of openvino (requirements.txt)")
        return cls(package / "include", library, importlib.metadata.version("openvino"))


def find_library(env: Mapping[str, str] | None = None) -> Path | None:
    """The compiled host of these sources and this OpenVINO, if there is one; where there is no compiler, of whichever
    it was made with. Raises BuildError if OpenVINO isn't there."""
    openvino = OpenVino.find()
    try:
        made = _place(openvino, Compiler.find(environment(env, prepend={})))
    except BuildError:
        return next(iter(sorted(_CACHE.glob(f"{_source_key(openvino)}-*/{LIBRARY_NAME}"))), None)
    return made if made.is_file() else None


def build_library(env: Mapping[str, str] | None = None) -> Path:
    """The compiled host, compiled if it isn't yet. ``env``, by default this process's environment, has PATH and CXX.

    Raises BuildError if there is no compiler, OpenVINO isn't there, the sources don't compile or the folder of this
    module can't be written.
    """
    found = find_library(env)
    if found is not None:
        return found
    openvino = OpenVino.find()
    variables = environment(env, prepend={})
    compiler = Compiler.find(variables)
    place = _place(openvino, compiler)
    try:
        with replace_when_complete(place) as beside, tempfile.TemporaryDirectory() as folder:
            done = run(
                _command(compiler, openvino, beside),
                env=variables,
                timeout_s=_TIMEOUT_S,
                log_path=Path(folder) / "compiler",
                poll_s=0.02,
            )
    except ProcessError as error:
        raise BuildError(f"the C++ host can't be compiled: {error}") from error
    except DataError as error:
        raise BuildError(f"the C++ host can't be compiled here: {error}") from error
    logger.info("the C++ host was compiled in %.1f s: %s", done.seconds, place)
    return place


def _command(compiler: Compiler, openvino: OpenVino, target: Path) -> list[str]:
    sources = [str(path) for path in sorted(_SOURCES.glob("*.cpp"))]
    return [
        *(*compiler.command, *_CODE, *_WARNINGS, *_LINK, f"-Wl,--version-script={_SOURCES / 'exports.map'}"),
        *("-isystem", str(openvino.include), *sources),
        *(str(openvino.library), f"-Wl,-rpath,{openvino.library.parent}", "-o", str(target)),
    ]


def _place(openvino: OpenVino, compiler: Compiler) -> Path:
    with_compiler = hashlib.sha256(compiler.identity.encode()).hexdigest()[:12]
    return _CACHE / f"{_source_key(openvino)}-{with_compiler}" / LIBRARY_NAME


def _source_key(openvino: OpenVino) -> str:
    """Of all that the library is made of, apart from the compiler."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    digest.update(repr((_CODE, _WARNINGS, _LINK, str(openvino.library), openvino.version)).encode())
    return digest.hexdigest()[:12]
