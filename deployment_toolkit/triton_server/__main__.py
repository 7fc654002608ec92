"""Runs the embedded tritonserver, or one in a container, until Ctrl-C or its end, for work by hand; or uses a running
server's repository until then: ``python -m deployment_toolkit.triton_server``."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError, UsageError
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_server.attached import attached_server
from deployment_toolkit.triton_server.docker import docker_server
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.model_processes import ModelProcesses
from deployment_toolkit.triton_server.proxied import proxied_server
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_LOOK_S = 1.0  # a look takes some milliseconds


@dataclass(frozen=True)
class ServerOptions:
    """Options of the command."""

    model_repository: Path = option("folder of the models; made if it isn't there")
    http_port: int = option("port of the HTTP protocol", 8000)
    grpc_port: int = option("port of the gRPC protocol", 8001)
    metrics_port: int = option("port of the metrics", 8002)
    load_method: LoadMethod = option("model control mode of the server", LoadMethod.EXPLICIT)
    log_path: Path = option("the server's log", Path("tritonserver.log"))
    image: str | None = option("run the server in a container of this image", None)
    custom_operations: Path | None = option("library that the container's server preloads", None)
    devices: list[int] = option("GPUs that the server sees", [], type=int, nargs="+", unique=True)
    remote_http_url: str | None = option("start no server: http(s)://host:port of one that serves the repository", None)
    remote_grpc_url: str | None = option("the same server, grpc(s)://host:port", None)
    models: list[str] = option(
        "models that may be deployed on the remote server, a model after its requirements; at the end they are "
        "unloaded and removed",
        [],
        nargs="+",
        unique=True,
    )

    def __post_init__(self) -> None:
        given = [self.remote_http_url is not None, self.remote_grpc_url is not None, bool(self.models)]
        if any(given) and not all(given):
            raise UsageError("--remote-http-url, --remote-grpc-url and --models go together: give all or none")
        if self.image and any(given):
            raise UsageError("--image starts a server, --remote-http-url names one that runs: leave one of them out")
        if self.restart_unhealthy and (self.image or any(given) or self.load_method is not LoadMethod.EXPLICIT):
            raise UsageError(
                "--restart-unhealthy watches the processes of the embedded server and loads models by request: leave "
                "out --image, the options of a remote server and --load-method poll"
            )
        if self.custom_operations and not self.image:
            raise UsageError("--custom-operations is for the server of --image: give that too, or leave it out")

    restart_unhealthy: bool = option(
        "load a model again whose process in the Python backend has ended; for the embedded server", False
    )
    ready_file: Path | None = option("empty file to make when the server is ready, for scripts that wait", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, ServerOptions)
    add_dataclass(parser, ProxyOptions)
    add_dataclass(parser, AccessOptions)
    arguments = parser.parse_args(argv)
    options, proxy = from_args(ServerOptions, arguments), from_args(ProxyOptions, arguments)
    access = from_args(AccessOptions, arguments)
    if access.given and options.remote_http_url is None:
        raise UsageError(f"{access.given[0]} is for a server elsewhere: give --remote-http-url too, or leave it out")
    if proxy.proxy and options.remote_http_url is not None:
        raise UsageError("--proxy is for a server that this command starts, --remote-http-url names one that runs")
    options.model_repository.mkdir(parents=True, exist_ok=True)
    with _server(options, proxy, access) as server:
        logger.info("ready at %s and %s, log in %s; Ctrl-C ends it", server.http_url, server.grpc_url, server.log_path)
        if server.key_file is not None:
            logger.info("loading models and registering shared memory need the key in %s", server.key_file)
        if options.ready_file is not None:
            options.ready_file.touch()
        _watch(server, options)
    raise ServerError(
        f"the server{' or its proxy' if proxy.proxy else ''} has ended by itself, see above why: start it again"
    )


def _watch(server: TritonServer, options: ServerOptions) -> None:
    """Returns when a server that this process started has ended."""
    processes = None
    if server.pid is not None and options.image is None:
        processes = ModelProcesses(server, options.model_repository, restart=options.restart_unhealthy)
    while server.poll() is None:
        if processes is not None:
            processes.look()
        time.sleep(_LOOK_S)


def _server(options: ServerOptions, proxy: ProxyOptions, access: AccessOptions) -> AbstractContextManager[TritonServer]:
    if options.remote_http_url and options.remote_grpc_url:
        return attached_server(
            options.model_repository,
            http_url=access.url(options.remote_http_url),
            grpc_url=access.url(options.remote_grpc_url),
            models=options.models,
        )
    launch: Callable[..., AbstractContextManager[TritonServer]] = local_server
    if options.image is not None:
        launch = partial(docker_server, image=options.image, custom_operations=options.custom_operations)
    launch = partial(
        launch,
        options.model_repository,
        log_path=options.log_path,
        load_method=options.load_method,
        devices=options.devices,
    )
    ports = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    if proxy.proxy:
        return proxied_server(launch, proxy, ports, options.log_path)
    return launch(**{f"{name}_port": port for name, port in ports.items()})


if __name__ == "__main__":
    run_entry_point(main)
