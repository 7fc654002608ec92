"""The tritonserver of nvidia-pytriton's wheel: where it and what it needs are."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import deployment_toolkit
from deployment_toolkit.cpp_host.library import BACKEND, LIBRARY_NAME, build_library
from deployment_toolkit.errors import BuildError, ServerError
from deployment_toolkit.process import environment
from deployment_toolkit.triton_server.server_options import COMMON_OPTIONS, own_regions

logger = logging.getLogger("triton")


@dataclass(frozen=True)
class Installation:
    """Places of the wheel and the interpreter that the server needs."""

    package: Path  # pytriton
    libpython: Path  # folder of the interpreter's shared library, which the model processes embed

    @classmethod
    def find(cls) -> Installation:
        """Raises ServerError if a part is missing."""
        spec = importlib.util.find_spec("pytriton")
        if spec is None or spec.origin is None:
            raise ServerError("the embedded server is not installed: pip install -r requirements.txt")
        name = f"libpython{_python_version()}.so.1.0"
        folders = [
            Path(str(sysconfig.get_config_var("LIBDIR"))),
            Path(sys.base_prefix) / "lib",
            Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")),
        ]
        libpython = next((folder for folder in folders if (folder / name).is_file()), None)
        if libpython is None:
            raise ServerError(f"{name} is missing, the server's models need it: apt-get install libpython3.11")
        return cls(Path(spec.origin).parent, libpython)

    @contextlib.contextmanager
    def command(self) -> Iterator[list[str]]:
        """The server's program with the options that don't depend on what it serves; a server started with them must
        have ended when the block is left, and its files and shared memory are removed then."""
        with tempfile.TemporaryDirectory(prefix="tritonserver_") as folder, own_regions() as region_prefix:
            yield [
                str(self.package / "tritonserver" / "bin" / "tritonserver"),
                f"--backend-directory={self._link_backends(Path(folder))}",
                region_prefix,
                f"--http-thread-count={_http_threads()}",
                *COMMON_OPTIONS,
            ]

    def environment(self, env: Mapping[str, str] | None = None, devices: Sequence[int] = ()) -> dict[str, str]:
        """What the server is to inherit, on top of ``env``, by default this process's environment; of the GPUs it sees
        ``devices`` only, if there are any, by the indices of nvidia-smi."""
        inherited = environment(
            env,
            prepend={
                "LD_LIBRARY_PATH": [self.package.parent / "nvidia_pytriton.libs", self.libpython],
                "PATH": [Path(sys.executable).parent],  # the stub takes its packages from the python3 it finds first
                "PYTHONPATH": [Path(deployment_toolkit.__file__).parent.parent],
            },
        )
        if devices:  # CUDA's own order is by speed, nvidia-smi's by the place on the bus
            inherited |= {"CUDA_VISIBLE_DEVICES": ",".join(map(str, devices)), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
        return inherited

    def _link_backends(self, folder: Path) -> Path:
        """A backend directory with this interpreter's stub, which the wheel keeps apart from the backend, and the C++
        host, where it can be had: only its own models miss it."""
        backend = folder / "python"
        backend.mkdir()
        wheel = self.package / "tritonserver"
        files = [*(wheel / "backends" / "python").iterdir()]
        files.append(wheel / "python_backend_stubs" / _python_version() / "triton_python_backend_stub")
        for file in files:
            (backend / file.name).symlink_to(file)
        try:
            library = build_library()
        except BuildError as error:
            logger.info("the server starts without the C++ host: %s", error)
        else:
            (folder / BACKEND).mkdir()
            (folder / BACKEND / LIBRARY_NAME).symlink_to(library)
        return folder


def _http_threads() -> int:
    """The server's own 8 would push each other, and the model, off a few cores."""
    return max(2, min(8, len(os.sched_getaffinity(0))))


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
