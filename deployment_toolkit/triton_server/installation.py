"""Installation of the tritonserver in nvidia-pytriton's wheel: paths, command and environment."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import deployment_toolkit
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cpp_host.library import BACKEND, LIBRARY_NAME, build_library
from deployment_toolkit.errors import BuildError, ServerError
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.process import environment
from deployment_toolkit.server_access.private_options import build_library as private_options_library
from deployment_toolkit.triton_server.plain_paths import plain_folder
from deployment_toolkit.triton_server.server_options import COMMON_OPTIONS, EXIT_TIMEOUT_S, exit_option, own_regions
from deployment_toolkit.users import User

logger = logging.getLogger("triton")

_LIBRARIES = "nvidia_pytriton.libs"  # folder next to the package, with the libraries that the wheel brings
_STUB = "triton_python_backend_stub"
_OTHERS_RUN = 0o005


@dataclass(frozen=True)
class Installation:
    """Paths in the wheel and in the interpreter that the server needs."""

    package: Path  # pytriton
    libpython: Path  # folder of the interpreter's shared library, which model processes embed

    @classmethod
    def find(cls) -> Installation:
        """Finds the installation. Raises ServerError if a part is missing."""
        spec = importlib.util.find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise ServerError("the embedded server is not installed: run scripts/install.sh")
        name = _libpython_name()
        folders = [
            Path(str(sysconfig.get_config_var("LIBDIR"))),
            Path(sys.base_prefix) / "lib",
            Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")),
        ]
        libpython = next((folder for folder in folders if (folder / name).is_file()), None)
        if libpython is None:
            package = f"libpython{_python_version()}"
            raise ServerError(f"{name} is missing, the server's models need it: apt-get install {package}")
        return cls(Path(spec.origin).parent, libpython)

    @contextlib.contextmanager
    def command(self, prefix: Sequence[str] = ()) -> Iterator[list[str]]:
        """Yields the server's program, after ``prefix``, with the options that are independent of the models. The
        server must have ended when the block is left; its files and shared memory are removed then."""
        with plain_folder() as folder, own_regions() as region_prefix:
            folder.chmod(0o755)  # another user may run the server; links to what everybody has are in it
            yield [
                *prefix,
                str(self.package / "tritonserver" / "bin" / "tritonserver"),
                f"--backend-directory={self._link_backends(folder)}",
                region_prefix,
                f"--http-thread-count={_http_threads()}",
                exit_option(EXIT_TIMEOUT_S),
                *COMMON_OPTIONS,
            ]

    def environment(self, env: Mapping[str, str] | None = None, devices: Sequence[int] = ()) -> dict[str, str]:
        """Environment of the server, based on ``env``, by default this process's environment. If ``devices`` (indices
        of nvidia-smi) are given, the server sees only these GPUs."""
        inherited = environment(
            env,
            prepend={
                "LD_LIBRARY_PATH": [self.package.parent / _LIBRARIES, self.libpython],
                "PATH": [Path(sys.executable).parent],  # the stub takes its packages from the first python3 on the PATH
                "PYTHONPATH": [Path(deployment_toolkit.__file__).parent.parent],
            },
        )
        inherited.pop("AIP_MODE", None)  # would open the Vertex AI endpoint, which knows no restricted requests
        inherited["PYTHONUTF8"] = "1"  # else a model's process can't open a path with letters beyond ASCII
        if devices:  # CUDA's default order is by speed, nvidia-smi's by place on the bus
            inherited |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return inherited

    @property
    def read_by_server(self) -> list[Path]:
        """What the server and its models' processes read, without the models: a part of each tree."""
        wheel = self.package / "tritonserver"
        programs = [wheel / "bin", wheel / "backends"]
        python = [Path(sys.executable), Path(os.__file__), self.libpython / _libpython_name()]
        packages = [Path(deployment_toolkit.__file__), self.package.parent / _LIBRARIES, private_options_library()]
        return [*programs, *python, *packages]

    @staticmethod
    def prefix(user: User | None) -> list[str]:
        """Start of the command line of a server that runs as ``user``, or as this process's user. A model's process
        imports from its current folder first, which must not be one that others may write, as /tmp is."""
        folder = [shutil.which("env", path=os.defpath) or "env", f"--chdir={ROOT}"]
        return [*folder, *([] if user is None else user.prefix())]

    def _link_backends(self, folder: Path) -> Path:
        """Backend directory with this interpreter's stub, which the wheel has in a separate folder, and the C++ host if
        it can be compiled: only models of that host need it. It lies in ``folder`` as deep as in the wheel, because the
        stub looks for libraries relative to itself."""
        wheel = self.package / "tritonserver"
        directory = folder / self.package.name / wheel.name / "backends"
        backend = directory / "python"
        backend.mkdir(parents=True)
        for file in (wheel / "backends" / "python").iterdir():
            (backend / file.name).symlink_to(file)
        self._place_stub(wheel / "python_backend_stubs" / _python_version() / _STUB, backend / _STUB)
        try:
            library = build_library()
        except BuildError as error:
            logger.info("the server starts without the C++ host: %s", error)
        else:
            (directory / BACKEND).mkdir()
            (directory / BACKEND / LIBRARY_NAME).symlink_to(library)
        return directory

    def _place_stub(self, stub: Path, target: Path) -> None:
        """Links the stub, or copies it where it is closed to other users. If it would take a libpython that the wheel
        brings, it gets a copy that takes this interpreter's: extension modules of packages that were installed for this
        one fail in another.

        Raises ServerError if no program may run from the folder of the copy."""
        needed = stub.read_bytes()
        brought = (self.package.parent / _LIBRARIES).glob("libpython*")
        foreign = [library.name for library in brought if library.name.encode() in needed]
        if not foreign and stub.stat().st_mode & _OTHERS_RUN == _OTHERS_RUN:
            target.symlink_to(stub)
            return
        shutil.copy(stub, target)
        if not os.access(target, os.X_OK):
            raise ServerError(f"no program may run from {target}: set TMPDIR to a folder that is not mounted noexec")
        target.chmod(0o755)
        if not foreign:
            return
        libraries = target.parents[4] / _LIBRARIES  # where a stub looks first
        libraries.mkdir()
        for name in foreign:
            (libraries / name).symlink_to(self.libpython / _libpython_name())


def _http_threads() -> int:
    """Number of HTTP threads: the server's default of 8 would compete with the model on a few cores."""
    return max(2, min(8, usable_cores()))


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _libpython_name() -> str:
    return f"libpython{_python_version()}.so.1.0"
