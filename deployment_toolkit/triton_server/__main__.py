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
from deployment_toolkit.errors import ServerError, UsageError, require_at_least
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.triton_server.attached import attached_server
from deployment_toolkit.triton_server.docker import docker_server
from deployment_toolkit.triton_server.health.supervisor import Supervisor
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.model_processes import ModelProcesses
from deployment_toolkit.triton_server.proxied import proxied_server
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.triton_server.server_options import EXIT_TIMEOUT_S

logger = logging.getLogger("triton")

_LOOK_S = 1.0  # a look takes some milliseconds
_MOST_RESTARTS = 3


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
        require_at_least("--exit-timeout-s", self.exit_timeout_s, 1)
        given = [self.remote_http_url is not None, self.remote_grpc_url is not None, bool(self.models)]
        if any(given) and not all(given):
            raise UsageError("--remote-http-url, --remote-grpc-url and --models go together: give all or none")
        if any(given) and self.exit_timeout_s != EXIT_TIMEOUT_S:
            raise UsageError("--exit-timeout-s is for a server that this command starts, --remote-http-url names one")
        if self.image and any(given):
            raise UsageError("--image starts a server, --remote-http-url names one that runs: leave one of them out")
        if self.restart_unhealthy and (self.image or any(given) or self.load_method is not LoadMethod.EXPLICIT):
            raise UsageError(
                "--restart-unhealthy watches the processes of the embedded server and loads models by request: leave "
                "out --image, the options of a remote server and --load-method poll"
            )
        if self.most_restarts < 0:
            raise UsageError(f"--most-restarts must be at least 0, not {self.most_restarts}")
        if self.most_restarts != _MOST_RESTARTS and not self.restart_unhealthy:
            raise UsageError("--most-restarts is for --restart-unhealthy: give that too, or leave it out")
        if self.custom_operations and not self.image:
            raise UsageError("--custom-operations is for the server of --image: give that too, or leave it out")

    restart_unhealthy: bool = option(
        "ask each model for a row every few seconds; load one again that fails, and if that does not help, start the "
        "server again; for the embedded server",
        False,
    )
    most_restarts: int = option(
        "most starts of the server again within an hour, with --restart-unhealthy", _MOST_RESTARTS
    )
    exit_timeout_s: int = option(
        "most time for requests in flight when the command is told to end, seconds; later ones are refused at once",
        EXIT_TIMEOUT_S,
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
    supervisor = Supervisor(options.model_repository, options.most_restarts) if options.restart_unhealthy else None
    reason: str | None = ""
    while reason is not None:
        with _server(options, proxy, access) as server:
            _tell_ready(server)
            if supervisor is not None:
                supervisor.begin(server)
            if options.ready_file is not None:
                options.ready_file.touch()
            reason = _watch(server, options, supervisor)
        if reason is not None:
            logger.error("the server is started again: %s", reason)
    raise ServerError(
        f"the server{' or its proxy' if proxy.proxy else ''} has ended by itself, see above why: start it again"
    )


def _tell_ready(server: TritonServer) -> None:
    logger.info("ready at %s and %s, log in %s; Ctrl-C ends it", server.http_url, server.grpc_url, server.log_path)
    if server.key_file is not None:
        logger.info("loading models and registering shared memory need the key in %s", server.key_file)


def _watch(server: TritonServer, options: ServerOptions, supervisor: Supervisor | None) -> str | None:
    """Returns when a server that this process started has ended, or has to be started again: then the reason."""
    processes = None
    if server.pid is not None and options.image is None:
        processes = ModelProcesses(server, None if supervisor is None else supervisor.mend)
    while server.poll() is None:
        if processes is not None:
            processes.look()
        if supervisor is not None and (reason := supervisor.look()) is not None:
            return reason
        time.sleep(_LOOK_S)
    ended = "the server or its proxy has ended by itself"
    return ended if supervisor is not None and supervisor.may_restart(ended) else None


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
        exit_timeout_s=options.exit_timeout_s,
    )
    ports = {"http": options.http_port, "grpc": options.grpc_port, "metrics": options.metrics_port}
    if proxy.proxy:
        return proxied_server(launch, proxy, ports, options.log_path, exit_timeout_s=options.exit_timeout_s)
    return launch(**{f"{name}_port": port for name, port in ports.items()})


if __name__ == "__main__":
    run_entry_point(main)
