"""What contradicts itself in a configuration's words about where the server runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from deployment_toolkit.core import DeviceKind, Format, Mnemonic

if TYPE_CHECKING:
    from runner.config import Config, Configuration

_LAST_WITH_TENSORFLOW = "25.02"
_TENSORFLOW_BACKEND = (Format.TF_SAVEDMODEL, Format.TF_TRT)
_RELEASE = r"\d\d\.\d\d"
_KEYS = ("container_version", "triton_container_image", "triton_dockerfile", "triton_custom_operations")


class TritonLaunchMode(Mnemonic):
    """Where the server runs: the one that comes with the requirements, without Docker, or in a container."""

    EMBEDDED = "embedded"
    DOCKER = "docker"


def container_keys(part: Config | Configuration) -> list[str]:
    """The keys of a run or an experiment that say which container."""
    return [name for name in _KEYS if getattr(part, name, None)]


def launch_problems(config: Config) -> Iterator[str]:
    """What can't be launched as configured: contradictions between the launch mode, containers, formats and devices."""
    parts: list[Config | Configuration] = [config, *config.configurations]
    for number, part in enumerate(parts):
        where = f"configuration {number}: " if number else ""
        if part.container_version and not re.fullmatch(_RELEASE, part.container_version):
            yield f"{where}container_version {part.container_version} is no release: give year and month, as '25.02'"
    for name in ("triton_dockerfile", "triton_custom_operations"):
        path = getattr(config, name)
        if path is not None and not path.is_file():
            yield f"{name} {path}: there is no such file"
    if config.launch_mode is TritonLaunchMode.EMBEDDED:
        yield from _embedded_problems(config)
    else:
        yield from _docker_problems(config)


def _embedded_problems(config: Config) -> Iterator[str]:
    parts: list[Config | Configuration] = [config, *config.configurations]
    for keys in map(container_keys, parts):
        if keys:
            yield f"{keys[0]} says which container, triton_launch_mode embedded needs none: leave one of them out"
    for number, configuration in enumerate(config.configurations, 1):
        if configuration.parameters.device_kind is DeviceKind.GPU:
            yield (
                f"configuration {number}: device_kind gpu needs triton_launch_mode docker, the embedded server runs "
                "models on the CPU"
            )


def _docker_problems(config: Config) -> Iterator[str]:
    for number, configuration in enumerate(config.configurations, 1):
        image, served = config.triton_image(configuration), configuration.parameters.format
        if image is None and config.triton_dockerfile is None:
            yield (
                f"configuration {number}: triton_launch_mode docker needs container_version, triton_container_image or "
                "triton_dockerfile"
            )
        release = re.search(rf"tritonserver:({_RELEASE})-", image or "")
        if release and served in _TENSORFLOW_BACKEND and release[1] > _LAST_WITH_TENSORFLOW:
            yield (
                f"configuration {number}: {image} has no TensorFlow backend for {served}, {_LAST_WITH_TENSORFLOW} is "
                "the last release with one"
            )
