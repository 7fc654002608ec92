"""Docker-compatible engine of this host, its images and containers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
from docker.errors import NotFound

from deployment_toolkit.containers.container import LOST, Container, not_started, reason_of
from deployment_toolkit.containers.gpu_access import NO_DRIVER, GpuAccess, gpu_ways
from deployment_toolkit.containers.progress import EngineProgress
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.errors import ContainerError
from deployment_toolkit.machine import is_loopback

logger = logging.getLogger("containers")


class _ApiWithoutProxy(docker.APIClient):  # type: ignore[misc]
    trust_env = property(lambda self: False, lambda self, value: None)  # requests connects as soon as it is made


class _Client(docker.DockerClient):  # type: ignore[misc]
    """Docker's client. For an engine of this host it asks no proxy of the environment."""

    def __init__(self, **options: Any) -> None:
        host = None
        with contextlib.suppress(ValueError):  # Docker's own error tells what is wrong with the address
            host = urlsplit(options.get("base_url") or "").hostname
        self.api = (docker.APIClient if host and not is_loopback(host) else _ApiWithoutProxy)(**options)


class ContainerEngine:
    """The engine at DOCKER_HOST or at Docker's default socket. Images are given by name."""

    def __init__(self, api: docker.APIClient) -> None:
        self._api = api

    @classmethod
    @contextlib.contextmanager
    def connect(cls) -> Iterator[ContainerEngine]:
        """Connects to the engine. Raises ContainerError if none answers."""
        try:
            client = _Client.from_env(version="auto")
        except LOST as error:
            raise ContainerError(f"no container engine answers: {_engine_mend(error)}") from error
        # From here on it may be silent for long: a server with nothing to log, a build that packs gigabytes.
        client.api.timeout = None
        with contextlib.closing(client):
            yield cls(client.api)

    def require_image(self, name: str) -> dict[str, str]:
        """Pulls the image if this host lacks it; returns the environment that the image sets. Raises ContainerError if
        it can't be pulled."""
        try:
            found = self._find_image(name)
            if found is None:
                logger.info("pulling image %s (the first time some minutes and GB)", name)
                EngineProgress("status").follow(self._api.pull(name, stream=True, decode=True))
                found = self._find_image(name)
        except LOST as error:
            raise self._not_pulled(name, reason_of(error)) from error
        except ContainerError as error:
            raise self._not_pulled(name, str(error)) from error
        if found is None:
            raise self._not_pulled(name, "the engine has not got it")
        return _environment(found)

    def has_image(self, name: str) -> bool:
        """True if this host has the image."""
        return self._find_image(name) is not None

    def image_id(self, name: str) -> str | None:
        """Id of the image that has this name now; None if this host has no such image. Raises ContainerError if the
        engine can't look it up."""
        found = self._look_up(name)
        return None if found is None else str(found["Id"])

    def image_environment(self, name: str) -> dict[str, str] | None:
        """Environment that an image sets; None if this host has no such image. Raises ContainerError if the engine
        can't look it up."""
        found = self._look_up(name)
        return None if found is None else _environment(found)

    def build_image(self, dockerfile: Path, name: str, build_args: Mapping[str, str] | None = None) -> None:
        """Builds an image from the Dockerfile's folder, without the files that its .dockerignore names.

        The build uses this host's network, because packages may be reachable only through it. Steps are logged at level
        INFO, their output at DEBUG. Raises ContainerError with the last lines of output if the build fails.
        """
        logger.info("building image %s with %s", name, dockerfile)
        folder = dockerfile.resolve().parent
        try:
            parts = self._api.build(
                path=str(folder), dockerfile=dockerfile.name, tag=name, buildargs=dict(build_args or {}), rm=True,
                forcerm=True, network_mode="host", decode=True,
            )  # fmt: skip
            EngineProgress("stream").follow(parts)
        except (*LOST, ContainerError) as error:
            raise ContainerError(f"{dockerfile} can't be built: {reason_of(error)}; fix it or name an image") from error

    @contextlib.contextmanager
    def container(self, spec: ContainerSpec, sink: Callable[[bytes], None]) -> Iterator[Container]:
        """A container that is removed when the block is left, also after an error. This host must have ``spec.image``.

        Raises ContainerError if the container can't be started; it is removed then too.
        """
        container = self._start(spec, sink)
        try:
            yield container
        finally:
            container.remove()

    def process_at(self, port: int) -> int | None:
        """Id of the first process of the container that publishes this port of the host; None if there is none, or this
        process can't see it. Raises ContainerError if the engine can't tell."""
        try:
            running = self._api.containers()
        except LOST as error:
            raise ContainerError(f"the engine does not list its containers ({reason_of(error)}): fix it") from error
        published = (item for item in running if any(at.get("PublicPort") == port for at in item.get("Ports") or ()))
        return next((Container(self._api, str(item["Id"]), lambda part: None).pid for item in published), None)

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
        except LOST as error:
            raise not_started(spec, error) from error
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
        except LOST as error:
            raise ContainerError(
                f"the engine does not report its access to GPUs ({reason_of(error)}): fix it"
            ) from error

    def _look_up(self, name: str) -> dict[str, Any] | None:
        try:
            return self._find_image(name)
        except LOST as error:
            raise ContainerError(f"image {name} can't be looked up ({reason_of(error)}): fix its name") from error

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


def _engine_mend(error: Exception) -> str:
    if "PermissionError" in str(error):
        return "this user may not use it, add it to the group docker (usermod -aG docker …) and log in again"
    return (
        "install Docker (https://docs.docker.com/engine/install) and start it (systemctl start docker), or set "
        "DOCKER_HOST to a running one's socket"
    )
