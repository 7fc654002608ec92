"""A library that programs preload, since they could only be told a key in their command line, which every user of the
host can read: it gives tritonserver further options, and the requests of perf_analyzer a further header."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment_toolkit.cpp_host.compiler import Library
from deployment_toolkit.errors import BuildError, ServerError
from deployment_toolkit.process import environment
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.triton_server.url import ServerUrl

LIBRARY_NAME = "libtriton_access.so"
CLIENT_KEY = "WIDE_DEEP_CLIENT_KEY"  # as in shared.h

_SOURCES = Path(__file__).parent / "src"
_CACHE = Path(__file__).parent / "build"
_CODE = ("-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra")
_LINK = ("-shared", "-static-libstdc++", "-static-libgcc")
_SERVER_OPTIONS = "WIDE_DEEP_SERVER_OPTIONS"


def build_preload(env: Mapping[str, str] | None = None) -> Path:
    """The library, compiled if it isn't yet; ``env`` as for the C++ host. Raises ServerError if it can't be."""
    try:
        return _library().build(env)
    except BuildError as error:
        raise ServerError(f"a server's key can't be kept from other users: {error}") from error


def server_variables(key: ServerKey) -> dict[str, str]:
    """With these, and the library preloaded, ``tritonserver`` starts restricted."""
    return {_SERVER_OPTIONS: "\n".join(key.server_options)}


def preloading_server(base: Mapping[str, str], key: ServerKey) -> dict[str, str]:
    """A copy of the environment in which ``tritonserver`` starts restricted."""
    return _preloading(base) | server_variables(key)


def preloading_client(base: Mapping[str, str], key: ServerKey, urls: Sequence[ServerUrl]) -> dict[str, str]:
    """A copy of the environment in which a program's requests to the ``urls`` carry the key; over IPv4 only."""
    addresses = []
    for url in urls:
        with contextlib.suppress(OSError):  # the program will not reach it either
            addresses.append(f"{socket.gethostbyname(url.host)}:{url.port}")
    return _preloading(base) | {CLIENT_KEY: f"{' '.join(addresses)}\n{key.line}"}


def preload_path(path: Path) -> str:
    """The library's path as LD_PRELOAD takes it. Raises ServerError if it can't be written there."""
    if re.search(r"[\s:]", str(path)):
        raise ServerError(f"{path} can't be preloaded: move this checkout to a path without spaces and colons")
    return str(path)


def _preloading(base: Mapping[str, str]) -> dict[str, str]:
    """By its name alone, since LD_PRELOAD takes no path with a space in it."""
    return environment(base, prepend={"LD_LIBRARY_PATH": [build_preload().parent], "LD_PRELOAD": [LIBRARY_NAME]})


def _library() -> Library:
    return Library("the library that hides it", LIBRARY_NAME, _SOURCES, _CACHE, [*_CODE, *_LINK])
