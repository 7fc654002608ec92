"""Tritonserver in a container of this host's Docker-compatible engine, reachable on loopback only."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from io import FileIO
from pathlib import Path

from deployment_toolkit.containers.container import Container
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.images import built_image_name
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ContainerError, ServerError
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import kept_key
from deployment_toolkit.server_access.ports import require_free
from deployment_toolkit.server_access.private_options import build_library, preload, variable
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.triton_server.server_options import (
    COMMON_OPTIONS,
    EXIT_TIMEOUT_S,
    exit_option,
    inference_options,
    own_regions,
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
from deployment_toolkit.users import NOBODY

logger = logging.getLogger("triton")

_PORTS = {"http": 8000, "grpc": 8001, "metrics": 8002}  # inside the container
_MORE_S = 10.0  # from the end of its own time to SIGKILL
_VERSION = "TRITON_SERVER_VERSION"  # set by NVIDIA's images
_FORBIDS_CLIENT_SHM = (2, 69)  # the first version that needs an option to let clients register shared memory


@contextlib.contextmanager
def docker_server(
    model_repository: Path,
    *,
    image: str,
    log_path: Path,
    http_port: int | None = None,
    grpc_port: int | None = None,
    metrics_port: int | None = None,
    load_method: LoadMethod = LoadMethod.EXPLICIT,
    devices: Sequence[int] = (),
    custom_operations: Path | None = None,
    timeout_s: float = 120.0,
    env: Mapping[str, str] | None = None,
    inference_key: ServerKey | None = None,
    exit_timeout_s: int = EXIT_TIMEOUT_S,
) -> Iterator[TritonServer]:
    """Yields a ready server on loopback. When the block is left, it answers what is in flight, for which it has
    ``exit_timeout_s``, and takes no more (``stopping``); then container and shared memory are removed.

    ``image``, pulled if this host lacks it, has ``tritonserver`` on its PATH. Ports that are not given are free ones.
    The log is appended to ``log_path`` while the server runs.

    The container sees the model repository and the library ``custom_operations``, which the server preloads, under
    their paths on this host, read-only; the GPUs ``devices`` by index; ``env`` in addition to the image's environment;
    and this host's /dev/shm, for the tensors of offline measurements and for the Python backend. It runs as the
    caller's user and group, so that both can open each other's shared memory. Called by root, it runs as nobody, who
    can't open root's shared memory. Its keys are like the embedded server's.

    Raises ServerError if the repository or the library is missing, if a server started by root (user nobody) may not
    read the repository, if a given port is in use, or if the server ends or is not ready within ``timeout_s``, then
    with the last lines of its log; ContainerError without an engine, without the image or if the container can't be
    started.
    """
    repository = require_repository(model_repository)
    options = repository_options(repository, load_method)
    if custom_operations is not None and not custom_operations.is_file():
        raise ServerError(f"there is no library of custom operations at {custom_operations}: fix its path")
    user = server_user(os.getuid(), os.getgid())
    if user == str(NOBODY):
        _require_readable(repository)
    wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
    require_free(wanted)
    libraries = [build_library(), *([] if custom_operations is None else [custom_operations.resolve()])]
    key = ServerKey.new()
    told = {**preload(*libraries), **variable([*key.server_options, *inference_options(inference_key)])}
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(ContainerEngine.connect())
        options += [stack.enter_context(own_regions()), *version_options(engine.require_image(image))]
        spec = ContainerSpec(
            image=image,
            command=("tritonserver", *options, exit_option(exit_timeout_s), *COMMON_OPTIONS),
            user=user,
            read_only=(repository, *libraries),
            environment={"HOME": "/tmp", **told, **(env or {})},
            ports={inside: wanted[name] for name, inside in _PORTS.items()},
            gpus=tuple(devices),
            host_ipc=True,
        )
        log = stack.enter_context(log_path.open("ab", buffering=0))
        log_start = log.tell()
        container = stack.enter_context(engine.container(spec, partial(_append, log)))
        try:
            server = _handle(container, log_path)
            wait_ready(server, wait=container.wait, timeout_s=timeout_s)
            require_restricted(server.http_url, server.grpc_url)
        except (ServerError, ContainerError) as error:
            said = what_it_says(log_path.read_bytes()[log_start:].decode(errors="replace"))
            raise ServerError(f"{error} in a container of {image}: {said}; its log is {log_path}") from error
        server.key_file = stack.enter_context(kept_key(key, server.urls))
        try:
            yield server
        finally:
            _tell_if_ended(container, log_path, log_start)
            answer_and_refuse(server, exit_timeout_s)
            container.stop("SIGTERM", exit_timeout_s + _MORE_S)


def server_user(uid: int, gid: int) -> str:
    """User (``uid:gid``) of a server's container: the caller, but nobody for root."""
    return f"{uid}:{gid}" if uid else str(NOBODY)


def _require_readable(repository: Path) -> None:
    """Raises ServerError if the repository has a file or folder that not everybody may read."""
    for path in filter(Path.exists, (repository, *repository.rglob("*"))):
        needed = 0o5 if path.is_dir() else 0o4
        if path.stat().st_mode & needed != needed:
            raise ServerError(
                f"{path} can't be read by nobody ({NOBODY}), as whom a server that root starts runs: chmod -R o+rX "
                f"{repository}, and umask 022 for what comes"
            )


def version_options(environment: Mapping[str, str]) -> list[str]:
    """Options that only some versions take, by the version in the image's environment; empty if it has none."""
    version = re.match(r"(\d+)\.(\d+)", environment.get(_VERSION, ""))
    if version and (int(version[1]), int(version[2])) >= _FORBIDS_CLIENT_SHM:
        return ["--allow-client-shm=true"]
    return []


def built_image(engine: ContainerEngine, dockerfile: Path, from_image_name: str | None = None) -> str:
    """Name of the Dockerfile's image, which is built in its folder if that changed; ``from_image_name`` is the build
    argument FROM_IMAGE_NAME. Raises ContainerError if it can't be built."""
    name = built_image_name(dockerfile, from_image_name)
    engine.build_image(dockerfile, name, {"FROM_IMAGE_NAME": from_image_name} if from_image_name else None)
    return name


def _append(log: FileIO, part: bytes) -> None:
    log.write(part)


def _handle(container: Container, log_path: Path) -> TritonServer:
    ports = {name: container.port(inside) for name, inside in _PORTS.items()}
    return loopback_server(ports, pid=container.pid, poll=container.poll, log_path=log_path)


def _tell_if_ended(container: Container, log_path: Path, log_start: int) -> None:
    try:
        log_early_end(container.poll(), log_path, log_start)
    except ContainerError as error:
        logger.error("%s; the server's log is %s", error, log_path)
