"""Build of the C++ host with sanitizers: an access outside memory, or undefined behaviour, ends the server at once. A
warning of the compiler fails it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployment_toolkit.cpp_host import library
from deployment_toolkit.process import environment, run
from deployment_toolkit.triton_server import installation

_OPTIONS = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -O0 -g1 -Werror"
_SHIM = Path(__file__).parent / "without_deepbind.cpp"


@contextmanager
def sanitized_host(folder: Path) -> Iterator[dict[str, str]]:
    """Servers that are started in the block with the yielded environment have this host. Skips the test without g++."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("there is no g++")
    shim = folder / "libwithout_deepbind.so"
    run([compiler, "-shared", "-fPIC", str(_SHIM), "-o", str(shim), "-ldl"], log_path=folder / "compiler")
    found = run([compiler, "-print-file-name=libasan.so"], log_path=folder / "asan").stdout.strip()
    if not Path(found).is_file():
        pytest.skip("g++ has no sanitizers")
    preload = {"LD_PRELOAD": f"{shim}:{found}"}
    # What the server and the libraries leave at their end is not the host's.
    options = {"ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "_CACHE", library._CACHE / "sanitized")
        built = library.build_library(environment(prepend={}) | {"CXX": f"{compiler} {_OPTIONS}"})
        patch.setattr(installation, "build_library", lambda: built)
        yield environment(prepend={}) | preload | options
