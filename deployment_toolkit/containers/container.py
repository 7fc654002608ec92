"""One container of a Docker-compatible engine."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException

from deployment_toolkit.containers.gpu_access import NO_DRIVER
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.errors import ContainerError

logger = logging.getLogger("containers")

_POLL_S = 0.25
_LOG_END_S = 5.0
_ENDED = ("exited", "dead", "stopped")
_MENDS = {
    "already allocated": "stop what listens there, or choose another port",
    "already in use": "stop what listens there, or choose another port",
    NO_DRIVER: "install the NVIDIA container toolkit and restart Docker",
    "no such file or directory": "what is mounted must be on the engine's own host",
    "executable file not found": "choose an image that has this program",
}
LOST = (APIError, DockerException, requests.exceptions.RequestException)


class Container:
    """A container of ``ContainerEngine``. A separate thread passes its output to ``sink`` as it arrives."""

    def __init__(self, api: docker.APIClient, container_id: str, sink: Callable[[bytes], None]) -> None:
        self._api = api
        self.id = container_id
        self._reader = threading.Thread(
            target=self._read, args=(sink,), name=f"log of {container_id[:12]}", daemon=True
        )

    def start(self, spec: ContainerSpec) -> None:
        """Starts the container, once. Raises ContainerError if the engine can't start it."""
        try:
            self._api.start(self.id)
        except LOST as error:
            raise not_started(spec, error) from error
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """Process id of the container's first process, None if this process can't see it."""
        pid = int(self._inspect()["State"]["Pid"])
        try:
            return pid if self.id in Path(f"/proc/{pid}/cgroup").read_text() else None
        except OSError:  # it has ended, or the engine's processes are not ours to see
            return None

    def port(self, inside: int) -> int:
        """Loopback port that leads to a port of the container. Raises ContainerError if the container has ended."""
        bindings = self._inspect()["NetworkSettings"]["Ports"].get(f"{inside}/tcp")
        if not bindings:
            raise ContainerError(f"container {self.id[:12]} has ended: nothing listens at its port {inside}")
        return int(bindings[0]["HostPort"])

    def poll(self) -> int | None:
        """Exit code, or None while the container runs. By then ``sink`` has received the whole output."""
        state = self._inspect()["State"]
        if state["Status"] not in _ENDED:
            return None
        self._reader.join(_LOG_END_S)
        return int(state["ExitCode"])

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit code, or None if the container still runs after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self.poll()) is None and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_S if timeout_s is None else min(_POLL_S, timeout_s))
        return code

    def stop(self, signal_name: str, grace_s: float) -> None:
        """Sends the signal and returns when the container has ended or ``grace_s`` are over."""
        with contextlib.suppress(*LOST, ContainerError):  # it has ended, or is gone
            self._api.kill(self.id, signal_name)
            self.wait(grace_s)

    def remove(self) -> None:
        """Ends and removes the container; no error if it is gone."""
        try:
            self._api.remove_container(self.id, force=True, v=True)
        except LOST as error:
            if getattr(error, "status_code", None) not in (404, 409):  # 409: somebody else is removing it
                logger.error("container %s could not be removed: docker rm --force it (%s)", self.id[:12], error)
        if self._reader.ident is not None:
            self._reader.join(_LOG_END_S)

    def _read(self, sink: Callable[[bytes], None]) -> None:
        """Passes the container's output to ``sink``.

        An engine may lose the end of the output, or all of it, if the container ends while its log is followed (podman
        does, seldom). So the kept log is read once more for the missing part.
        """
        taken = 0
        for follow in (True, False):
            at = 0
            with contextlib.suppress(*LOST):  # the engine is gone; ``poll`` and ``wait`` report it
                for part in self._api.logs(self.id, stream=True, follow=follow):
                    rest = part[max(0, taken - at) :]
                    at += len(part)
                    if rest:
                        sink(rest)
                        taken = at

    def _inspect(self) -> dict[str, Any]:
        try:
            return dict(self._api.inspect_container(self.id))
        except LOST as error:
            raise ContainerError(
                f"container {self.id[:12]} can't be inspected ({reason_of(error)}): has somebody removed it?"
            ) from error


def not_started(spec: ContainerSpec, error: Exception) -> ContainerError:
    """Error for a container that the engine can't create or start, with a remedy."""
    reason = reason_of(error)
    mend = next((mend for sign, mend in _MENDS.items() if sign in reason), "see the engine's own log")
    return ContainerError(f"a container of {spec.image} with {spec.command[0]} can't be started ({reason}): {mend}")


def reason_of(error: Exception) -> str:
    """The engine's error message on one line."""
    return " ".join(str(getattr(error, "explanation", None) or error).split())
