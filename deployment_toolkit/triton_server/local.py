"""The tritonserver of nvidia-pytriton's wheel as a child of this process: no Docker, no GPU, on loopback only."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import re
import socket
import sys
import sysconfig
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

import deployment_toolkit
from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process import Child, child, environment, last_lines
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_HOST = "127.0.0.1"
_SHARED_MEMORY = Path("/dev/shm")
_POLL_S = 0.1
_PROGRESS_S = 5.0
_START_ATTEMPTS = 5
_EXIT_TIMEOUT_S = 5  # for requests in flight when the server is told to end
_REPOSITORY_POLL_S = 1
_PORT_TAKEN = "already in use"


@contextlib.contextmanager
def local_server(
    model_repository: Path,
    *,
    log_path: Path,
    http_port: int | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    load_method: LoadMethod = LoadMethod.EXPLICIT,
    timeout_s: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> Iterator[TritonServer]:
    """A ready server on loopback, gone with all its processes, files and shared memory when the block is left.

    Ports left out are chosen free. The log is appended to ``log_path`` while the server runs. Models are hosted by the
    Python backend, in processes that import this project and the packages of this interpreter; ``env`` is what they
    inherit, by default this process's environment. Call it in a thread that outlives the block: the kernel ends the
    server with the thread that started it.

    Raises ServerError if the repository is missing, a given port is in use, or the server ends or is not ready within
    ``timeout_s``, then with the last lines of its log.
    """
    if not model_repository.is_dir():
        raise ServerError(f"there is no model repository at {model_repository}: give an existing folder")
    wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    _require_free(wanted)
    installation = _Installation.find()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    shared_memory_prefix = f"triton_{uuid.uuid4().hex}_"
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tritonserver_")))
        stack.callback(_remove_shared_memory, shared_memory_prefix)
        options = [
            f"--model-repository={model_repository.resolve()}",
            f"--backend-directory={installation.link_backend(folder)}",
            f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
            f"--model-control-mode={load_method}",
            # Configurations are complete. Completing them would start every model twice, and might add a scheduler.
            "--disable-auto-complete-config",
        ]
        if load_method == LoadMethod.POLL:
            options.append(f"--repository-poll-secs={_REPOSITORY_POLL_S}")
        command = [str(installation.server), *options]
        process, server = _start(stack, command, wanted, log_path, timeout_s, installation.environment(env))
        try:
            yield server
        finally:
            if process.poll() is not None:
                logger.error("tritonserver ended by itself, code %s; its log is %s", process.poll(), log_path)


@dataclass(frozen=True)
class _Installation:
    """Where the wheel and the interpreter keep what the server needs."""

    package: Path  # pytriton
    libpython: Path  # folder of the interpreter's shared library, which the model processes embed

    @classmethod
    def find(cls) -> _Installation:
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

    @property
    def server(self) -> Path:
        return self.package / "tritonserver" / "bin" / "tritonserver"

    def link_backend(self, folder: Path) -> Path:
        """A backend directory with this interpreter's stub, which the wheel keeps apart from the backend."""
        backend = folder / "python"
        backend.mkdir()
        wheel = self.package / "tritonserver"
        files = [*(wheel / "backends" / "python").iterdir()]
        files.append(wheel / "python_backend_stubs" / _python_version() / "triton_python_backend_stub")
        for file in files:
            (backend / file.name).symlink_to(file)
        return folder

    def environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return environment(
            env,
            prepend={
                "LD_LIBRARY_PATH": [self.package.parent / "nvidia_pytriton.libs", self.libpython],
                "PATH": [Path(sys.executable).parent],  # the stub takes its packages from the python3 it finds first
                "PYTHONPATH": [Path(deployment_toolkit.__file__).parent.parent],
            },
        )


def _start(
    stack: contextlib.ExitStack,
    command: list[str],
    wanted: Mapping[str, int | None],
    log_path: Path,
    timeout_s: float,
    env: Mapping[str, str],
) -> tuple[Child, TritonServer]:
    """A ready server; another process may take a chosen port before the server does, then others are chosen."""
    for attempt in range(1, _START_ATTEMPTS + 1):
        ports = _choose_free(wanted)
        log_start = log_path.stat().st_size if log_path.exists() else 0
        arguments = [f"--{name}-{key}" for name, port in ports.items() for key in (f"address={_HOST}", f"port={port}")]
        with contextlib.ExitStack() as attempt_stack:
            process = attempt_stack.enter_context(child([*command, *arguments], env=env, stdout=log_path))
            server = TritonServer(
                http_url=f"http://{_HOST}:{ports['http']}",
                grpc_url=f"grpc://{_HOST}:{ports['grpc']}",
                metrics_url=f"http://{_HOST}:{ports['metrics']}/metrics",
                pid=process.pid,
                log_path=log_path,
            )
            try:
                _wait_ready(process, server, set(ports.values()), timeout_s)
            except ServerError as error:
                log = log_path.read_bytes()[log_start:].decode(errors="replace")
                if _PORT_TAKEN in log and None in wanted.values() and attempt < _START_ATTEMPTS:
                    _require_free(wanted)
                    continue
                raise ServerError(f"{error}: {_what_it_says(log)}; its log is {log_path}") from error
            stack.push(attempt_stack.pop_all())
            return process, server
    raise AssertionError("the last attempt returns or raises")


def _wait_ready(process: Child, server: TritonServer, ports: set[int], timeout_s: float) -> None:
    started = time.monotonic()
    next_line_s = _PROGRESS_S
    while True:
        code = process.wait(_POLL_S)
        if code is not None:
            raise ServerError(f"tritonserver ended with code {code} while it started")
        # Asking the ports alone would not do: whoever took one of them may be a server too.
        if ports <= _listening_ports(process.pid) and server.is_ready():
            logger.info("tritonserver is ready after %.1f s at %s", time.monotonic() - started, server)
            return
        waited_s = time.monotonic() - started
        if waited_s > timeout_s:
            raise ServerError(f"tritonserver is not ready after {timeout_s:g} s")
        if waited_s > next_line_s:
            logger.info("waiting for tritonserver, %.0f of at most %g s", waited_s, timeout_s)
            next_line_s += _PROGRESS_S


def _what_it_says(log: str) -> str:
    """The errors of a server's log, or its last lines, without its tables and its complaint about a missing GPU."""
    lines = [line for line in log.splitlines() if not line.startswith(("+", "|")) and "CudaDriverHelper" not in line]
    errors = [line for line in lines if re.match(r"E\d{4} |error: ", line)]
    return last_lines("\n".join(errors or lines))


def _listening_ports(pid: int) -> set[int]:
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:  # it has just ended
        return set()
    return {connection.laddr.port for connection in connections if connection.status == psutil.CONN_LISTEN}


def _require_free(wanted: Mapping[str, int | None]) -> None:
    given = {name: port for name, port in wanted.items() if port is not None}
    for name, port in given.items():
        if list(given.values()).count(port) > 1:
            raise ServerError(f"port {port} is given more than once: choose another {name}_port")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError as error:
                raise ServerError(
                    f"port {port} of {_HOST} can't be used ({error.strerror}): stop what listens there, choose "
                    f"another {name}_port or give none for a free one"
                ) from error


def _choose_free(wanted: Mapping[str, int | None]) -> dict[str, int]:
    with contextlib.ExitStack() as stack:
        ports = {}
        for name, port in wanted.items():
            if port is None:
                probe = stack.enter_context(socket.socket())
                probe.bind((_HOST, 0))
                port = probe.getsockname()[1]
            ports[name] = port
        return ports


def _remove_shared_memory(prefix: str) -> None:
    for path in _SHARED_MEMORY.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"
