"""Tritonserver of nvidia-pytriton's wheel as a child of this process: no Docker, no GPU unless a model needs one, on
loopback only."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process import Child, child
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import kept_key
from deployment_toolkit.server_access.ports import choose_free, listens, port_options, require_free
from deployment_toolkit.server_access.private_options import with_private_options
from deployment_toolkit.triton_server.installation import Installation
from deployment_toolkit.triton_server.plain_paths import own_places, plain_folder, plain_path
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.triton_server.server_options import (
    EXIT_TIMEOUT_S,
    exit_option,
    inference_options,
    repository_options,
    require_repository,
)
from deployment_toolkit.triton_server.starting import (
    log_early_end,
    loopback_server,
    require_restricted,
    wait_ready,
    what_it_says,
)
from deployment_toolkit.triton_server.stopping import answer_and_refuse
from deployment_toolkit.users import unprivileged

logger = logging.getLogger("triton")

_START_ATTEMPTS = 5
_MORE_S = 10  # from the end of its own time to SIGKILL
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
    devices: Sequence[int] = (),
    inference_key: ServerKey | None = None,
    exit_timeout_s: int = EXIT_TIMEOUT_S,
) -> Iterator[TritonServer]:
    """Yields a ready server on loopback. When the block is left, it answers what is in flight, for which it has
    ``exit_timeout_s``, and takes no more (``stopping``); then its processes, files and shared memory are removed.

    Ports that are not given are free ones. The log is appended to ``log_path`` while the server runs. The Python
    backend hosts models in processes that import this project and the packages of this interpreter; ``env`` is their
    environment, by default this process's. ``devices`` are the GPUs that the server and its models see, by the indices
    of nvidia-smi; without them the server sees the GPUs that the environment allows. Call it in a thread that outlives
    the block: the kernel ends the server with the thread that started it. Requests that change the server need its key,
    which is new for each start; this user's clients find it (``key_files``). Requests for inference need
    ``inference_key``, if there is one. Called by root, the server runs as nobody; if nobody can't read what it needs,
    it runs as root, and its log says why.

    Raises ServerError if the repository is missing, a given port is in use, or the server ends or is not ready within
    ``timeout_s``, then with the last lines of its log.
    """
    repository = require_repository(model_repository)
    wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    require_free(wanted)
    installation = Installation.find()
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        own = stack.enter_context(plain_folder())
        own.chmod(0o755)  # only links and folders of the server are in it
        user, reason = unprivileged([*installation.read_by_server, repository, own])
        logger.info("tritonserver: %s", reason)
        with log_path.open("a") as log:
            log.write(f"tritonserver: {reason}\n")
        # The Python backend needs a plain path, even if the repository's own is not.
        served = plain_path(repository, own)
        command = [
            *stack.enter_context(installation.command(installation.prefix(user))),
            *repository_options(served, load_method),
            exit_option(exit_timeout_s),
        ]
        key = ServerKey.new()
        private = [*key.server_options, *inference_options(inference_key)]
        told = installation.environment(env, devices) | own_places(own, user)
        environment = with_private_options(told, private)
        process, server, log_start = _start(
            stack, command, wanted, log_path, timeout_s, environment, exit_timeout_s + _MORE_S
        )
        server.key_file = stack.enter_context(kept_key(key, server.urls))
        try:
            yield server
        finally:
            log_early_end(process.poll(), log_path, log_start)
            if process.poll() is None:
                answer_and_refuse(server, exit_timeout_s)


def _start(
    stack: contextlib.ExitStack,
    command: list[str],
    wanted: Mapping[str, int | None],
    log_path: Path,
    timeout_s: float,
    env: Mapping[str, str],
    grace_s: float,
) -> tuple[Child, TritonServer, int]:
    """Starts a ready server; if another process takes a chosen port before the server does, others are chosen. Also
    returns the place in its log where its own lines begin, in bytes."""
    for attempt in range(1, _START_ATTEMPTS + 1):
        ports = choose_free(wanted)
        log_start = log_path.stat().st_size if log_path.exists() else 0
        with contextlib.ExitStack() as attempt_stack:
            starting = child([*command, *port_options(ports)], env=env, stdout=log_path, grace_s=grace_s)
            process = attempt_stack.enter_context(starting)
            server = loopback_server(ports, pid=process.pid, poll=process.poll, log_path=log_path)
            try:
                # A request to the ports would not be enough: the process that took one of them may be a server too.
                listening = partial(listens, process.pid, set(ports.values()))
                wait_ready(server, wait=process.wait, timeout_s=timeout_s, listens=listening)
                require_restricted(server.http_url, server.grpc_url)
            except ServerError as error:
                log = log_path.read_bytes()[log_start:].decode(errors="replace")
                if _PORT_TAKEN in log and None in wanted.values() and attempt < _START_ATTEMPTS:
                    require_free(wanted)
                    continue
                raise ServerError(f"{error}: {what_it_says(log)}; its log is {log_path}") from error
            stack.push(attempt_stack.pop_all())
            return process, server, log_start
    raise AssertionError("the last attempt returns or raises")
