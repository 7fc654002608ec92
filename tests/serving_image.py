"""Images of what runs in a pod, built on the tests' base image: the server's, a model's and the proxy's."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import docker

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine

_TIMEOUT_S = 600


PROXY = """ARG FROM_IMAGE_NAME
FROM ${FROM_IMAGE_NAME}
RUN apt-get update && apt-get install --yes --no-install-recommends haproxy && rm -rf /var/lib/apt/lists/*
USER 65534:65534
STOPSIGNAL SIGUSR1
"""


@contextlib.contextmanager
def open_serving_image(base_image: str, *, keep: bool) -> Iterator[str]:
    """Context with the image of Dockerfile.serving; gives its name. It is kept or removed like the project's image, and
    so is its first stage, in which the time goes."""
    dockerfile = ROOT / "Dockerfile.serving"
    if keep:
        _tag_first_stage(dockerfile, "localhost/wide-deep-serving-build:kept", base_image)
    with _built(dockerfile, "wide-deep-serving", base_image, keep=keep) as name:
        yield name


@contextlib.contextmanager
def open_proxy_image(base_image: str, *, keep: bool) -> Iterator[str]:
    """Context with an image of Debian's HAProxy, which ends at its signal as the official image does; gives its
    name."""
    with tempfile.TemporaryDirectory() as folder:
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(PROXY)
        with _built(dockerfile, "wide-deep-haproxy", base_image, keep=keep) as name:
            yield name


@contextlib.contextmanager
def _built(dockerfile: Path, name: str, base_image: str, *, keep: bool) -> Iterator[str]:
    """Context with the image that a Dockerfile builds on the base image; removed at the end unless it is to be kept."""
    tag = f"localhost/{name}:{'kept' if keep else os.getpid()}"
    with ContainerEngine.connect() as engine:
        engine.build_image(dockerfile, tag, {"FROM_IMAGE_NAME": base_image})
    if keep:
        yield tag
        return
    with removed(tag):
        yield tag


def _tag_first_stage(dockerfile: Path, tag: str, base_image: str) -> None:
    """Builds the stage ``build`` with a name, without which it would not be kept."""
    with contextlib.closing(docker.from_env(timeout=_TIMEOUT_S)) as client:
        client.images.build(
            path=str(dockerfile.parent), dockerfile=dockerfile.name, tag=tag, target="build", rm=True, forcerm=True,
            network_mode="host", buildargs={"FROM_IMAGE_NAME": base_image},
        )  # fmt: skip


@contextlib.contextmanager
def removed(tag: str) -> Iterator[str]:
    """Context at whose end the image of this name, if there is one, is removed."""
    try:
        yield tag
    finally:
        client = docker.from_env(timeout=_TIMEOUT_S)
        with contextlib.closing(client), contextlib.suppress(docker.errors.NotFound):
            client.images.remove(tag, force=True)


def build_model_image(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Runs scripts/build_model_image.sh."""
    command = [ROOT / "scripts" / "build_model_image.sh", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
