"""Start of a server: the wait until it is ready, the check of its restrictions, the errors in its log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import how_it_ended, last_lines
from deployment_toolkit.server_access.key import REFUSED
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.admin import admin_client
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_POLL_S = 0.1
_PROGRESS_S = 5.0
_ANSWER_TIMEOUT_S = 10.0
_END_BYTES = 16 * 1024


def wait_ready(
    server: TritonServer,
    *,
    wait: Callable[[float], int | None],
    timeout_s: float,
    listens: Callable[[], bool] = lambda: True,
) -> None:
    """Returns when the server is ready. ``wait(seconds)`` returns its exit code, None while it runs; ``listens``
    returns True if this server listens at its ports.

    Raises ServerError if the server ends or is not ready within ``timeout_s``.
    """
    started = time.monotonic()
    next_line_s = _PROGRESS_S
    while True:
        code = wait(_POLL_S)
        if code is not None:
            raise ServerError(f"tritonserver {how_it_ended(code)} while it started")
        if listens() and server.is_ready():
            logger.info("tritonserver is ready after %.1f s at %s", time.monotonic() - started, server)
            return
        waited_s = time.monotonic() - started
        if waited_s > timeout_s:
            raise ServerError(f"tritonserver is not ready after {timeout_s:g} s")
        if waited_s > next_line_s:
            logger.info("waiting for tritonserver, %.0f of at most %g s", waited_s, timeout_s)
            next_line_s += _PROGRESS_S


def loopback_server(
    ports: Mapping[str, int], *, pid: int | None, poll: Callable[[], int | None], log_path: Path
) -> TritonServer:
    """The handle on a server that this process started, by its ports for ``http``, ``grpc`` and ``metrics``; ``poll``
    returns its exit code, None while it runs."""
    return TritonServer(
        http_url=f"http://{LOOPBACK}:{ports['http']}",
        grpc_url=f"grpc://{LOOPBACK}:{ports['grpc']}",
        metrics_url=f"http://{LOOPBACK}:{ports['metrics']}/metrics",
        pid=pid,
        poll=poll,
        log_path=log_path,
    )


def log_early_end(code: int | None, log_path: Path, log_start: int) -> None:
    """Logs that a server ended before it was told to, with its last lines, if it has an exit code. ``log_start`` is the
    place in its log where its own lines begin, in bytes."""
    if code is not None:
        logger.error("%s", early_end(code, log_path, log_start))


def early_end(code: int, log_path: Path, log_start: int = 0) -> str:
    """Sentence on the end of a server that was not told to end, as ``log_early_end`` logs it."""
    said = what_it_says(_end_of(log_path, log_start))
    return f"tritonserver ended by itself, it {how_it_ended(code)}: {said}; its log is {log_path}"


def require_restricted(*urls: str) -> None:
    """Raises ServerError if the server lets a client without its key list its models. This happens in a container that
    could not load the library that passes the restricting options."""
    for url in urls:
        try:
            with admin_client(ServerUrl.parse(url), timeout_s=_ANSWER_TIMEOUT_S, with_key=False) as client:
                client.index()
        except ServerError as error:
            if REFUSED not in str(error):
                raise
        else:
            raise ServerError(
                f"tritonserver at {url} lets every user of this host load models, which run as its user: it could not "
                "preload the library that restricts it, so use an image of this architecture with glibc 2.34 or later"
            )


def what_it_says(log: str) -> str:
    """Errors of a server's log, or its last lines, without its tables and its complaint about a missing GPU."""
    lines = [line for line in log.splitlines() if not line.startswith(("+", "|")) and "CudaDriverHelper" not in line]
    errors = [line for line in lines if re.match(r"E\d{4} |error: ", line)]
    return last_lines("\n".join(errors or lines))


def _end_of(log_path: Path, log_start: int) -> str:
    with log_path.open("rb") as log:
        log.seek(max(log_start, log_path.stat().st_size - _END_BYTES))
        return log.read().decode(errors="replace")
