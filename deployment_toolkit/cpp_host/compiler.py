"""C++ compiler of this machine, and shared libraries that are compiled once and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import shlex
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import BuildError, DataError, ProcessError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.process import environment, run

logger = logging.getLogger("compiler")

_TIMEOUT_S = 600.0
_NAMES = ("c++", "g++", "clang++")
REMEDY = "install one (Debian, Ubuntu: apt-get install g++; without root: pip install ziglang)"


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: ``command`` compiles C++17 and takes the options of gcc."""

    command: tuple[str, ...]

    @classmethod
    def find(cls, env: Mapping[str, str]) -> Compiler:
        """Finds ``$CXX``, which may have options; else the first of c++, g++, clang++ on the PATH; else the compiler in
        the package ziglang. Raises BuildError if there is none, or ``$CXX`` is missing."""
        search = env.get("PATH")
        given = shlex.split(env.get("CXX", ""))
        if given:
            program = shutil.which(given[0], path=search)
            if program is None:
                raise BuildError(f"the C++ compiler of CXX={env['CXX']} is not there: {REMEDY}, or leave CXX out")
            return cls((program, *given[1:]))
        found = filter(None, (shutil.which(name, path=search) for name in _NAMES))
        program = next(found, None)
        if program is not None:
            return cls((program,))
        if importlib.util.find_spec("ziglang") is not None:
            return cls((sys.executable, "-m", "ziglang", "c++"))
        raise BuildError(f"there is no C++ compiler: {REMEDY}")

    @property
    def identity(self) -> str:
        """Text that changes with the compiler; made from the program's path, size and time, without starting it."""
        program = Path(self.command[0]).resolve()
        stat = program.stat()
        return f"{self.command} {program} {stat.st_size} {stat.st_mtime_ns}"


@dataclass(frozen=True)
class Library:
    """A shared library, compiled once for its sources, ``arguments``, ``version`` and a compiler. A level of
    optimization in ``$CXX`` takes the place of that in ``arguments``.

    ``what`` is its name in messages; ``sources`` is a folder with subfolders, and a change of any of its files compiles
    anew; ``exports.map`` in it, if present, lists the exported symbols. Source files in the subfolders ``left_out`` are
    not compiled. The library is kept below ``cache`` as ``name``.
    """

    what: str
    name: str
    sources: Path
    cache: Path
    arguments: Sequence[str]
    version: str = ""
    left_out: Sequence[str] = ()

    def find(self, env: Mapping[str, str] | None = None) -> Path | None:
        """Path of the compiled library, if there is one; without a compiler, the library of any compiler."""
        try:
            made = self._place(Compiler.find(environment(env, prepend={})))
        except BuildError:
            return next(iter(sorted(self.cache.glob(f"{self._key()}-*/{self.name}"))), None)
        return made if made.is_file() else None

    def build(self, env: Mapping[str, str] | None = None) -> Path:
        """Path of the library, compiled if necessary. ``env``, by default this process's environment, has PATH and CXX.
        Raises BuildError if there is no compiler, the sources don't compile or the cache can't be written."""
        found = self.find(env)
        if found is not None:
            return found
        variables = environment(env, prepend={})
        compiler = Compiler.find(variables)
        place = self._place(compiler)
        logger.info("compiling %s, which is done once and may take minutes", self.what)
        try:
            with replace_when_complete(place) as beside, tempfile.TemporaryDirectory() as folder:
                done = run(
                    [*compiler.command, *self._sources(), *self._arguments(compiler), "-o", str(beside)],
                    env=variables,
                    timeout_s=_TIMEOUT_S,
                    log_path=Path(folder) / "compiler",
                    poll_s=0.02,
                )
                beside.chmod(0o755)  # independent of the umask: a container's user loads it too
        except ProcessError as error:
            raise BuildError(f"{self.what} can't be compiled: {error}") from error
        except DataError as error:
            raise BuildError(f"{self.what} can't be compiled here: {error}") from error
        logger.info("%s was compiled in %.1f s: %s", self.what, done.seconds, place)
        return place

    def _sources(self) -> list[str]:
        exports = self.sources / "exports.map"
        # -Wl would cut a path at its commas.
        options = ["-Xlinker", f"--version-script={exports}"] if exports.exists() else []
        left_out = [self.sources / folder for folder in self.left_out]
        files = (file for file in self.sources.rglob("*.cpp") if not any(map(file.is_relative_to, left_out)))
        *others, last = sorted(map(str, files))
        # As one piece, so that each header is read once: in a third of the time.
        return [*options, *(part for file in others for part in ("-include", file)), last]

    def _arguments(self, compiler: Compiler) -> list[str]:
        if not any(map(_is_level, compiler.command)):
            return [*self.arguments]
        return [argument for argument in self.arguments if not _is_level(argument)]

    def _place(self, compiler: Compiler) -> Path:
        with_compiler = hashlib.sha256(compiler.identity.encode()).hexdigest()[:12]
        return self.cache / f"{self._key()}-{with_compiler}" / self.name

    def _key(self) -> str:
        """Digest of everything that the library is made from, except the compiler."""
        digest = hashlib.sha256()
        for path in sorted(filter(Path.is_file, self.sources.rglob("*"))):
            digest.update(f"{path.relative_to(self.sources)}\0".encode() + path.read_bytes())
        digest.update(repr((tuple(self.arguments), self.version, tuple(self.left_out))).encode())
        return digest.hexdigest()[:12]


def _is_level(argument: str) -> bool:
    """True for -O3 and the like, of which a compiler takes the last."""
    return argument.startswith("-O")
