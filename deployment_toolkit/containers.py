"""Containers of this host's Docker-compatible engine. The only user of the Docker SDK."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from deployment_toolkit.container_spec import ContainerSpec
from deployment_toolkit.engine_progress import EngineProgress
from deployment_toolkit.errors import ContainerError
from deployment_toolkit.gpu_access import NO_DRIVER, GpuAccess, gpu_ways

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
_LOST = (APIError, DockerException, requests.exceptions.RequestException)


class Container:
    """A container of ``ContainerEngine``. What it prints goes to ``sink`` as it comes, in a thread of its own."""

    def __init__(self, api: docker.APIClient, container_id: str, sink: Callable[[bytes], None]) -> None:
        self._api = api
        self.id = container_id
        self._reader = threading.Thread(
            target=self._read, args=(sink,), name=f"log of {container_id[:12]}", daemon=True
        )

    def start(self, spec: ContainerSpec) -> None:
        """Starts it, once. Raises ContainerError if the engine can't."""
        try:
            self._api.start(self.id)
        except _LOST as error:
            raise _not_started(spec, error) from error
        self._reader.start()

    @property
    def pid(self) -> int | None:
        """Process id of its first process, None if that is not a process that this one can see."""
        pid = int(self._inspect()["State"]["Pid"])
        try:
            return pid if self.id in Path(f"/proc/{pid}/cgroup").read_text() else None
        except OSError:  # it has ended, or the engine's processes are not ours to see
            return None

    def port(self, inside: int) -> int:
        """The port of loopback that leads to a port inside. Raises ContainerError if it has ended."""
        bindings = self._inspect()["NetworkSettings"]["Ports"].get(f"{inside}/tcp")
        if not bindings:
            raise ContainerError(f"container {self.id[:12]} has ended: nothing listens at its port {inside}")
        return int(bindings[0]["HostPort"])

    def poll(self) -> int | None:
        """Exit code, or None while it runs. Once it is there, ``sink`` has got everything."""
        state = self._inspect()["State"]
        if state["Status"] not in _ENDED:
            return None
        self._reader.join(_LOG_END_S)
        return int(state["ExitCode"])

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Exit code, or None if it still runs after ``timeout_s``."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self.poll()) is None and (deadline is None or time.monotonic() < deadline):
            time.sleep(_POLL_S if timeout_s is None else min(_POLL_S, timeout_s))
        return code

    def stop(self, signal_name: str, grace_s: float) -> None:
        """Asks it to end, and returns when it has or ``grace_s`` are over."""
        with contextlib.suppress(*_LOST, ContainerError):  # it has ended, or is gone
            self._api.kill(self.id, signal_name)
            self.wait(grace_s)

    def remove(self) -> None:
        """Ends and removes it; no error if it is gone."""
        try:
            self._api.remove_container(self.id, force=True, v=True)
        except _LOST as error:
            if getattr(error, "status_code", None) not in (404, 409):  # 409: somebody else is removing it
                logger.error("container %s could not be removed: docker rm --force it (%s)", self.id[:12], error)
        if self._reader.ident is not None:
            self._reader.join(_LOG_END_S)

    def _read(self, sink: Callable[[bytes], None]) -> None:
        with contextlib.suppress(*_LOST):  # the engine has gone; whoever waits for the container is told
            for part in self._api.logs(self.id, stream=True, follow=True):
                sink(part)

    def _inspect(self) -> dict[str, Any]:
        try:
            return dict(self._api.inspect_container(self.id))
        except _LOST as error:
            raise ContainerError(
                f"container {self.id[:12]} can't be inspected ({_reason(error)}): has somebody removed it?"
            ) from error


class ContainerEngine:
    """The engine that DOCKER_HOST names, or of Docker's socket. Images by name."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    @classmethod
    @contextlib.contextmanager
    def connect(cls) -> Iterator[ContainerEngine]:
        """Raises ContainerError if none answers."""
        try:
            client = docker.from_env(version="auto")
        except _LOST as error:
            raise ContainerError(f"no container engine answers: {_engine_mend(error)}") from error
        # From here on it may be silent for long: a server with nothing to log, a build that packs gigabytes.
        client.api.timeout = None
        with contextlib.closing(client):
            yield cls(client.api)

    def require_image(self, name: str) -> dict[str, str]:
        """Pulls the image if it is not here; returns the environment it sets. Raises ContainerError if it can't be
        had."""
        try:
            found = self._find_image(name)
            if found is None:
                logger.info("pulling image %s (the first time some minutes and GB)", name)
                EngineProgress("status").follow(self._api.pull(name, stream=True, decode=True))
                found = self._find_image(name)
        except _LOST as error:
            raise self._not_pulled(name, _reason(error)) from error
        except ContainerError as error:
            raise self._not_pulled(name, str(error)) from error
        if found is None:
            raise self._not_pulled(name, "the engine has not got it")
        return _environment(found)

    def has_image(self, name: str) -> bool:
        """Whether the image is here."""
        return self._find_image(name) is not None

    def image_id(self, name: str) -> str | None:
        """What tells an image from another that had its name; None if it is not here. Raises ContainerError if the
        engine can't tell."""
        found = self._look_up(name)
        return None if found is None else str(found["Id"])

    def image_environment(self, name: str) -> dict[str, str] | None:
        """The environment that an image sets; None if it is not here. Raises ContainerError if the engine can't
        tell."""
        found = self._look_up(name)
        return None if found is None else _environment(found)

    def build_image(self, dockerfile: Path, name: str, build_args: Mapping[str, str] | None = None) -> None:
        """Builds an image in the Dockerfile's folder, less what its .dockerignore names, on this host's network, as
        packages may be reached through it only. Its steps are logged, what they print in detail. Raises ContainerError
        with the last lines if it fails."""
        logger.info("building image %s with %s", name, dockerfile)
        folder = dockerfile.resolve().parent
        try:
            parts = self._api.build(
                path=str(folder), dockerfile=dockerfile.name, tag=name, buildargs=dict(build_args or {}), rm=True,
                forcerm=True, network_mode="host", decode=True,
            )  # fmt: skip
            EngineProgress("stream").follow(parts)
        except (*_LOST, ContainerError) as error:
            raise ContainerError(f"{dockerfile} can't be built: {_reason(error)}; mend it or name an image") from error

    @contextlib.contextmanager
    def container(self, spec: ContainerSpec, sink: Callable[[bytes], None]) -> Iterator[Container]:
        """A container that is gone when the block is left, however it is left. ``spec.image`` must be here.

        Raises ContainerError if it can't be started; then it is gone too.
        """
        container = self._start(spec, sink)
        try:
            yield container
        finally:
            container.remove()

    def _start(self, spec: ContainerSpec, sink: Callable[[bytes], None]) -> Container:
        *ways, last = self._gpu_ways() if spec.gpus else [GpuAccess.DEVICE_REQUESTS]
        for way in ways:
            try:
                return self._start_with(spec, way, sink)
            except ContainerError as error:
                if NO_DRIVER not in str(error):
                    raise
                logger.info("the engine has no driver for %s, asking for GPUs by its %s", way.value, last.value)
        return self._start_with(spec, last, sink)

    def _start_with(self, spec: ContainerSpec, gpu_access: GpuAccess, sink: Callable[[bytes], None]) -> Container:
        try:
            container_id = str(self._api.create_container_from_config(spec.to_api(gpu_access))["Id"])
        except _LOST as error:
            raise _not_started(spec, error) from error
        container = Container(self._api, container_id, sink)
        try:
            container.start(spec)
        except BaseException:
            container.remove()
            raise
        return container

    def _gpu_ways(self) -> list[GpuAccess]:
        try:
            return gpu_ways(self._api.version(), self._api.info())
        except _LOST as error:
            raise ContainerError(f"the engine does not tell how it gives GPUs ({_reason(error)}): mend it") from error

    def _look_up(self, name: str) -> dict[str, Any] | None:
        try:
            return self._find_image(name)
        except _LOST as error:
            raise ContainerError(f"image {name} can't be looked up ({_reason(error)}): mend its name") from error

    def _find_image(self, name: str) -> dict[str, Any] | None:
        try:
            return dict(self._api.inspect_image(name))
        except NotFound:
            return None

    @staticmethod
    def _not_pulled(name: str, reason: str) -> ContainerError:
        return ContainerError(
            f"image {name} is not here and can't be pulled ({reason}): mend its name, docker login where it comes "
            "from, or build it"
        )


def _environment(image: Mapping[str, Any]) -> dict[str, str]:
    pairs = (item.partition("=") for item in image.get("Config", {}).get("Env") or ())
    return {key: value for key, _, value in pairs}


def _not_started(spec: ContainerSpec, error: Exception) -> ContainerError:
    reason = _reason(error)
    mend = next((mend for sign, mend in _MENDS.items() if sign in reason), "see the engine's own log")
    return ContainerError(f"a container of {spec.image} with {spec.command[0]} can't be started ({reason}): {mend}")


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "explanation", None) or error).split())


def _engine_mend(error: Exception) -> str:
    if "PermissionError" in str(error):
        return "this user may not use it, add it to the group docker (usermod -aG docker …) and log in again"
    return (
        "install Docker (https://docs.docker.com/engine/install) and start it (systemctl start docker), or set "
        "DOCKER_HOST to a running one's socket"
    )
