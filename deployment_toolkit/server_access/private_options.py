"""Options that must not be on a program's command line, which every user of the host can read. The program preloads a
library that takes them from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment_toolkit.cpp_host.compiler import Library
from deployment_toolkit.errors import BuildError, ServerError
from deployment_toolkit.process import environment

LIBRARY_NAME = "libprivate_options.so"  # this and the variable as in src/private_options.cpp

_VARIABLE = "WIDE_DEEP_PRIVATE_OPTIONS"
_SOURCES = Path(__file__).parent / "src"
_CACHE = Path(__file__).parent / "build"
_CODE = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra")
_LINK = ("-shared", "-static-libstdc++", "-static-libgcc")


def build_library(env: Mapping[str, str] | None = None) -> Path:
    """Path of the library, compiled if necessary; ``env`` as for the C++ host. Raises ServerError if the compilation
    fails."""
    library = Library("the library that hides it", LIBRARY_NAME, _SOURCES, _CACHE, [*_CODE, *_LINK])
    try:
        return library.build(env)
    except BuildError as error:
        raise ServerError(f"a server's key can't be kept from other users: {error}") from error


def with_private_options(base: Mapping[str, str], options: Sequence[str]) -> dict[str, str]:
    """Copy of the environment that gives ``tritonserver`` or ``perf_analyzer`` these additional options. Raises
    ServerError if the library can't be compiled."""
    # The name without its folder, since LD_PRELOAD takes no path with a space in it.
    search: dict[str, list[str | Path]] = {"LD_LIBRARY_PATH": [build_library().parent], "LD_PRELOAD": [LIBRARY_NAME]}
    return environment(base, prepend=search) | variable(options)


def variable(options: Sequence[str]) -> dict[str, str]:
    """Environment variable from which the preloaded library reads the options."""
    return {_VARIABLE: "\n".join(options)}


def preload(*libraries: Path) -> dict[str, str]:
    """Environment variable that preloads these libraries. Raises ServerError if it can't hold their paths."""
    for path in libraries:
        if re.search(r"[\s:]", str(path)):
            raise ServerError(
                f"{path} can't be preloaded: move it, or this checkout, to a path without spaces and colons"
            )
    return {"LD_PRELOAD": ":".join(map(str, libraries))}
