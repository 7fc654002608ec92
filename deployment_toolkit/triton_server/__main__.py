"""Runs the embedded tritonserver until Ctrl-C, for work by hand: ``python -m deployment_toolkit.triton_server``."""

from __future__ import annotations

import logging
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.triton_server.local import local_server

logger = logging.getLogger("triton")


@dataclass(frozen=True)
class ServerOptions:
    """Options of the command."""

    model_repository: Path = option("folder of the models; made if it isn't there")
    http_port: int = option("port of the HTTP protocol", 8000)
    grpc_port: int = option("port of the gRPC protocol", 8001)
    metrics_port: int = option("port of the metrics", 8002)
    load_method: LoadMethod = option("how the server learns of models", LoadMethod.EXPLICIT)
    log_path: Path = option("the server's log", Path("tritonserver.log"))
    ready_file: Path | None = option("empty file to make when the server is ready, for scripts that wait", None)


def main(argv: list[str]) -> None:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, ServerOptions)
    options = from_args(ServerOptions, parser.parse_args(argv))
    options.model_repository.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, _interrupt)
    with local_server(
        options.model_repository,
        log_path=options.log_path,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        load_method=options.load_method,
    ) as server:
        logger.info("ready at %s and %s, log in %s; Ctrl-C ends it", server.http_url, server.grpc_url, options.log_path)
        if options.ready_file is not None:
            options.ready_file.touch()
        signal.pause()


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    run_entry_point(main)
