"""Output of a container reaches its sink completely and once, even if the engine loses parts of the log stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import docker
import pytest

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import ContainerSpec


@pytest.mark.parametrize("kept", [0, 1])
def test_container_output_is_complete_after_its_end(
    container_image: str, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """``kept`` is the number of parts that the log stream delivers before it breaks."""
    complete = docker.APIClient.logs

    def losing(api: docker.APIClient, container_id: str, *, follow: bool, **options: Any) -> Iterator[bytes]:
        parts = complete(api, container_id, follow=follow, **options)
        return iter(list(parts)[: kept if follow else None])

    monkeypatch.setattr(docker.APIClient, "logs", losing)
    spec = ContainerSpec(container_image, ("bash", "-c", "echo one; echo two >&2; echo three; exit 7"), "65534:65534")
    printed: list[bytes] = []
    with ContainerEngine.connect() as engine, engine.container(spec, printed.append) as container:
        assert container.wait(60) == 7
    assert sorted(b"".join(printed).splitlines()) == [b"one", b"three", b"two"]
