"""The processes of the proxy: HAProxy, and the check of JSON."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.process import Child, environment, how_it_ended, last_lines
from deployment_toolkit.proxy.settings import ProxyOptions
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.ports import choose_free, listens

logger = logging.getLogger("proxy")

_CONFIG, _REFUSE = (Path(__file__).parent / name for name in ("haproxy.cfg", "refuse.lua"))
_SYSTEM_FOLDERS = "/usr/sbin:/usr/local/sbin:/sbin"  # not on every user's PATH
_START_S = 30.0
_POLL_S = 0.05
_CHECK_S = 6.0  # for the check of JSON to end, when HAProxy has
_MORE_S = 1.0  # than HAProxy's own limit
_HAPROXY_LINE = re.compile(r"\[ALERT\]")
_TOO_FEW_FILES = re.compile(r"Cannot raise FD limit to (\d+), limit is (\d+)")


@dataclass(frozen=True)
class Proxy:
    """A running proxy; ``processes`` by title."""

    processes: dict[str, Child]
    log_path: Path

    def poll(self) -> int | None:
        """Exit code of a process that has ended, None while all run."""
        codes = (process.poll() for process in self.processes.values())
        return next((code for code in codes if code is not None), None)

    def log_early_end(self) -> None:
        """Logs which process ended before it was told to."""
        for title, process in self.processes.items():
            code = process.poll()
            if code is not None:
                said, _ = process.output()
                logger.error(
                    "%s ended by itself, it %s: %s; its log is %s",
                    title,
                    how_it_ended(code),
                    _what_it_says(said),
                    self.log_path,
                )


def find_haproxy() -> str:
    """Path of HAProxy. Raises ServerError if it is not installed."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path=_SYSTEM_FOLDERS)
    if found is None:
        raise ServerError("--proxy needs HAProxy, which is not installed: apt-get install haproxy (2.6 or later)")
    return found


@contextlib.contextmanager
def running_proxy(
    options: ProxyOptions,
    ports: Mapping[str, int],
    server_ports: Mapping[str, int],
    *,
    key: ServerKey,
    log_path: Path,
    exit_timeout_s: int,
) -> Iterator[Proxy]:
    """Yields a proxy that listens on loopback; its processes have ended when the block is left.

    ``ports`` and ``server_ports`` are its own and the server's for ``http``, ``grpc`` and ``metrics``. It adds ``key``
    to requests for inference. The log is appended to ``log_path``. At the end, after the grace of ``options``, it
    refuses connections and has ``exit_timeout_s`` to answer what is in flight.

    Raises ServerError if HAProxy is missing, or if a process ends or does not listen within half a minute.
    """
    program = find_haproxy()
    with contextlib.ExitStack() as stack:
        json_port = 0 if options.proxy_binary_only else choose_free({"json": None})["json"]
        told = environment(prepend={"PYTHONPATH": [ROOT]}) | options.environment(ports, server_ports, json_port, key)
        told |= {"WIDE_DEEP_REFUSE": str(_REFUSE), "WIDE_DEEP_EXIT_S": str(exit_timeout_s)}
        proxy = Proxy({}, log_path)
        if json_port:
            command = _check_command(options, json_port, server_ports["http"])
            _start(stack, proxy, "the check of JSON", command, told, [json_port], signal.SIGTERM, _CHECK_S)
        # In the foreground; SIGUSR1 lets it answer what is in flight.
        command = [program, "-db", "-f", str(_CONFIG)]
        patience_s = options.proxy_grace_s + exit_timeout_s + _MORE_S
        _start(stack, proxy, "HAProxy", command, told, [*ports.values()], signal.SIGUSR1, patience_s)
        try:
            yield proxy
        finally:
            proxy.log_early_end()


def _check_command(options: ProxyOptions, port: int, server_port: int) -> list[str]:
    command = [sys.executable, "-m", "deployment_toolkit.proxy", "--port", str(port)]
    command += ["--server-url", f"http://{LOOPBACK}:{server_port}", "--json-bytes", str(options.json_bytes)]
    return [*command, "--timeout-s", str(options.proxy_timeout_s)]


def _start(
    stack: contextlib.ExitStack,
    proxy: Proxy,
    title: str,
    command: list[str],
    env: Mapping[str, str],
    ports: list[int],
    stop_signal: signal.Signals,
    patience_s: float,
) -> None:
    """Adds a process that listens at these ports to the proxy. Raises ServerError if it ends or the time is over."""
    process = Child(command, env=env, stdout=proxy.log_path, stderr=proxy.log_path)
    stack.callback(process.stop, first=stop_signal, grace_s=patience_s)
    deadline = time.monotonic() + _START_S
    while not listens(process.pid, ports):
        code = process.wait(_POLL_S)
        if code is not None:
            said = _what_it_says(process.output()[0])
            raise ServerError(f"{title} {how_it_ended(code)} while it started: {said}; its log is {proxy.log_path}")
        if time.monotonic() > deadline:
            raise ServerError(f"{title} does not listen after {_START_S:g} s; its log is {proxy.log_path}")
    proxy.processes[title] = process


def _what_it_says(log: str) -> str:
    """HAProxy's own complaints in the common log, or its last lines."""
    if files := _TOO_FEW_FILES.search(log):
        return f"it needs {files[1]} open files and may have {files[2]}, lower --proxy-connections or raise ulimit -n"
    lines = log.splitlines()
    return last_lines("\n".join([line for line in lines if _HAPROXY_LINE.match(line)] or lines))
