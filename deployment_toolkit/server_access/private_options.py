"""Options for a program that must not stand in its command line, which every user of the host can read: it preloads a
library that takes them from its environment."""

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
    """The library, compiled if it isn't yet; ``env`` as for the C++ host. Raises ServerError if it can't be."""
    library = Library("the library that hides it", LIBRARY_NAME, _SOURCES, _CACHE, [*_CODE, *_LINK])
    try:
        return library.build(env)
    except BuildError as error:
        raise ServerError(f"a server's key can't be kept from other users: {error}") from error


def with_private_options(base: Mapping[str, str], options: Sequence[str]) -> dict[str, str]:
    """A copy of the environment in which ``tritonserver``, or ``perf_analyzer``, takes these options too. Raises
    ServerError if the library can't be compiled."""
    # By its name alone, since LD_PRELOAD takes no path with a space in it.
    search: dict[str, list[str | Path]] = {"LD_LIBRARY_PATH": [build_library().parent], "LD_PRELOAD": [LIBRARY_NAME]}
    return environment(base, prepend=search) | variable(options)


def variable(options: Sequence[str]) -> dict[str, str]:
    """The variable from which a program that preloads the library takes them."""
    return {_VARIABLE: "\n".join(options)}


def preload(*libraries: Path) -> dict[str, str]:
    """The variable that preloads these. Raises ServerError if it can't name them."""
    for path in libraries:
        if re.search(r"[\s:]", str(path)):
            raise ServerError(
                f"{path} can't be preloaded: move it, or this checkout, to a path without spaces and colons"
            )
    return {"LD_PRELOAD": ":".join(map(str, libraries))}
