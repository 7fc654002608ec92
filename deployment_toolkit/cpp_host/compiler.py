"""A C++ compiler of this machine."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import BuildError

_NAMES = ("c++", "g++", "clang++")
REMEDY = "install one (Debian, Ubuntu: apt-get install g++; without root: pip install ziglang)"


@dataclass(frozen=True)
class Compiler:
    """``command`` compiles C++17 with the options of gcc."""

    command: tuple[str, ...]

    @classmethod
    def find(cls, env: Mapping[str, str]) -> Compiler:
        """``$CXX``, which may have options; else the first of c++, g++, clang++ on the PATH; else the one that the
        package ziglang brings. Raises BuildError if there is none, or ``$CXX`` is none."""
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
        """Changes with the compiler; no process is started to tell."""
        program = Path(self.command[0]).resolve()
        stat = program.stat()
        return f"{self.command} {program} {stat.st_size} {stat.st_mtime_ns}"
