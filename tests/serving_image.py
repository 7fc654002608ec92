"""Images of what runs in a pod, built on the tests' base image: the server's, a model's and the proxy's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
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
    """Context with the image of Dockerfile.serving; gives its name. If it is kept, its first stage, in which the time
    goes, is kept too, and both until one of the files changes that they are made of."""
    with _built(ROOT / "Dockerfile.serving", "wide-deep-serving", base_image, keep=keep, stage="build") as name:
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
def _built(dockerfile: Path, name: str, base_image: str, *, keep: bool, stage: str = "") -> Iterator[str]:
    """Context with the image that a Dockerfile builds on the base image; removed at the end unless it is to be kept.
    Then its tag is a digest of what it is made of, and the images of other digests are removed. ``stage`` is kept
    beside it, by a name of its own: the engine would remove its layers."""
    made_of = _digest(dockerfile, base_image)
    tag = f"localhost/{name}:{made_of if keep else os.getpid()}"
    with ContainerEngine.connect() as engine, contextlib.closing(docker.from_env(timeout=_TIMEOUT_S)) as client:
        if not engine.has_image(tag):
            if keep and stage:
                _build_stage(client, dockerfile, stage, f"localhost/{name}-{stage}:kept", base_image)
            engine.build_image(dockerfile, tag, {"FROM_IMAGE_NAME": base_image})
            others = {old for image in client.images.list(name=f"localhost/{name}") for old in image.tags} - {tag}
            for other in others if keep else ():
                client.images.remove(other, force=True)
    if keep:
        yield tag
        return
    with removed(tag):
        yield tag


def _digest(dockerfile: Path, base_image: str) -> str:
    """Digest of a Dockerfile, of the files that it copies from its folder, and of its base."""
    text = dockerfile.read_text()
    digest = hashlib.sha256(f"{base_image}\n{text}".encode())
    for arguments in re.findall(r"^COPY (?!--)(.*)$", text.replace("\\\n", " "), flags=re.MULTILINE):
        for source in arguments.split()[:-1]:
            for path in sorted(item for place in dockerfile.parent.glob(source) for item in (place, *place.rglob("*"))):
                name = path.relative_to(dockerfile.parent)
                if path.is_file() and not {"__pycache__", "build"} & set(name.parts):
                    digest.update(f"{name}\0{path.stat().st_mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _build_stage(client: docker.DockerClient, dockerfile: Path, stage: str, tag: str, base_image: str) -> None:
    client.images.build(
        path=str(dockerfile.parent), dockerfile=dockerfile.name, tag=tag, target=stage, rm=True, forcerm=True,
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
