"""The program perf_analyzer: where it is, the libraries that it loads, its version.

``scripts/install.sh`` unpacks the newest release that this system's C library runs into a folder of its own: today's
tritonclient carries none. Release 2.51 links against libb64 and libcudart; 2.60 opens libcudart for any kind of shared
memory. The wheel of nvidia-pytriton brings both libraries."""

from __future__ import annotations

import contextlib
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

from deployment_toolkit.errors import PerformanceError, ProcessError
from deployment_toolkit.process import environment, run

NAME = "perf_analyzer"
INSTALL = "run scripts/install.sh, which installs the perf_analyzer for this system"

# Libraries by the names that perf_analyzer knows, and their file names in the wheel of nvidia-pytriton.
_LIBRARIES = {
    "libb64.so.0d": "libb64-*.so.0d",
    "libcudart.so.12": "libcudart-*.so.12*",
    "libcudart.so": "libcudart-*.so.12*",
}
_VERSION_LINE = "Perf Analyzer Version "
_ANSWERS_S = 20.0


def find_program() -> Path:
    """Path of perf_analyzer: in its folder in this interpreter's environment, else next to the interpreter's scripts,
    else on the PATH. Raises PerformanceError if there is none."""
    own = Path(sys.prefix) / NAME / "bin" / NAME
    for installed in (own, Path(sysconfig.get_path("scripts")) / NAME):
        if installed.is_file():
            return installed
    found = shutil.which(NAME)
    if found is None:
        raise PerformanceError(f"there is no perf_analyzer in {own.parent} and none on the PATH: {INSTALL}")
    return Path(found)


def link_libraries(folder: Path) -> Path:
    """New folder inside ``folder`` with the libraries under the names that perf_analyzer needs; libraries that the
    wheel lacks must come from the system."""
    links = folder / "lib"
    links.mkdir()
    wheel = Path(sysconfig.get_path("purelib")) / "nvidia_pytriton.libs"
    for name, pattern in _LIBRARIES.items():
        for library in sorted(wheel.glob(pattern))[:1]:
            (links / name).symlink_to(library)
    return links


def explain_start(stderr: str) -> str | None:
    """Why perf_analyzer could not start, with the remedy; None if ``stderr`` shows another problem."""
    lines = stderr.strip().splitlines()
    for line in lines:
        if "error while loading shared libraries" in line:
            return f"{line}: {INSTALL}, or install the package of this library"
        if "version `GLIBC" in line and "not found" in line:
            return f"{line}: it is for a newer system; {INSTALL}"
    return None


def program_version() -> dict[str, str]:
    """Version of perf_analyzer by the program's name, as it states it; empty if there is none that runs."""
    with (
        contextlib.suppress(PerformanceError, ProcessError),
        tempfile.TemporaryDirectory(prefix="perf_analyzer_") as folder,
    ):
        env = environment(prepend={"LD_LIBRARY_PATH": [link_libraries(Path(folder))]})
        log_path = Path(folder) / "version"
        said = run([find_program(), "--version"], env=env, timeout_s=_ANSWERS_S, log_path=log_path, poll_s=0.01)
        _, _, version = f"{said.stdout}{said.stderr}".partition(_VERSION_LINE)
        if version:
            return {NAME: version.split()[0]}
    return {}
