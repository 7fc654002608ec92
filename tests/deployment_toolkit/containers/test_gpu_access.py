"""GPU access of containers: bodies of the Docker Engine API compared with expected ones, and the requests to an
engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.gpu_access import GpuAccess
from deployment_toolkit.containers.spec import ContainerSpec
from deployment_toolkit.errors import ContainerError
from deployment_toolkit.hardware import gpu_names

SPEC = ContainerSpec(
    image="tritonserver:1",
    command=("tritonserver", "--model-repository=/models"),
    user="1000:100",
    read_only=(Path("/models"),),
    environment={"HOME": "/tmp"},
    ports={8000: None, 8001: 9001},
    gpus=(0, 2),
    host_ipc=True,
)
BODY = {
    "Image": "tritonserver:1",
    "Cmd": ["tritonserver", "--model-repository=/models"],
    "User": "1000:100",
    "Env": ["HOME=/tmp"],
    "WorkingDir": "",
    "ExposedPorts": {"8000/tcp": {}, "8001/tcp": {}},
    "Labels": {"wide-deep-deployment": ""},
}
HOST = {
    "Mounts": [{"Type": "bind", "Source": "/models", "Target": "/models", "ReadOnly": True}],
    "PortBindings": {
        "8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}],
        "8001/tcp": [{"HostIp": "127.0.0.1", "HostPort": "9001"}],
    },
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "IpcMode": "host",
    "Ulimits": [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "stack", "Soft": 67108864, "Hard": 67108864}],
}
REQUESTS = [{"Driver": "", "DeviceIDs": ["0", "2"], "Capabilities": [["gpu"]]}]
BY_REQUESTS = BODY | {"HostConfig": HOST | {"DeviceRequests": REQUESTS}}
BY_RUNTIME = BODY | {"Env": ["HOME=/tmp", "NVIDIA_VISIBLE_DEVICES=0,2"], "HostConfig": HOST | {"Runtime": "nvidia"}}
NEW, OLD = {"ApiVersion": "1.51", "Version": "28.3.3"}, {"ApiVersion": "1.39", "Version": "18.09.9"}
PODMAN = NEW | {"Components": [{"Name": "Podman Engine"}]}
WITH_RUNTIME: dict[str, Any] = {"Runtimes": {"nvidia": {}, "runc": {}}}
WITHOUT_RUNTIME: dict[str, Any] = {"Runtimes": {"runc": {}}}


class MockDocker:
    """A mock of Docker that answers each call, with or without a GPU driver."""

    def __init__(self, version: dict[str, Any], info: dict[str, Any], *, driver: bool) -> None:
        self.created: list[dict[str, Any]] = []
        self.removed: list[str] = []
        self._version, self._info, self._driver = version, info, driver

    def version(self) -> dict[str, Any]:
        return self._version

    def info(self) -> dict[str, Any]:
        return self._info

    def create_container_from_config(self, body: dict[str, Any]) -> dict[str, str]:
        self.created.append(body)
        return {"Id": str(len(self.created))}

    def start(self, container_id: str) -> None:
        if "DeviceRequests" in self.created[int(container_id) - 1]["HostConfig"] and not self._driver:
            raise APIError("500", explanation='could not select device driver "" with capabilities: [[gpu]]')

    def logs(self, container_id: str, **_: object) -> list[bytes]:
        return []

    def remove_container(self, container_id: str, **_: object) -> None:
        self.removed.append(container_id)


def start(mock: MockDocker) -> None:
    with ContainerEngine(mock).container(SPEC, lambda part: None):  # type: ignore[arg-type]
        assert str(len(mock.created)) not in mock.removed


def test_api_body_names_gpus_by_device_request_or_runtime() -> None:
    assert SPEC.to_api() == SPEC.to_api(GpuAccess.DEVICE_REQUESTS) == BY_REQUESTS
    assert SPEC.to_api(GpuAccess.NVIDIA_RUNTIME) == BY_RUNTIME


@pytest.mark.parametrize(
    ("version", "info", "driver", "bodies"),
    [
        (NEW, WITH_RUNTIME, True, [BY_REQUESTS]),
        (NEW, WITHOUT_RUNTIME, True, [BY_REQUESTS]),
        (NEW, WITH_RUNTIME, False, [BY_REQUESTS, BY_RUNTIME]),
        (OLD, WITH_RUNTIME, False, [BY_RUNTIME]),
    ],
)
def test_gpus_are_requested_in_the_way_the_engine_supports(
    version: dict[str, Any], info: dict[str, Any], driver: bool, bodies: list[dict[str, Any]]
) -> None:
    mock = MockDocker(version, info, driver=driver)
    start(mock)
    assert mock.created == bodies
    assert mock.removed == [str(number) for number, _ in enumerate(bodies, 1)]


@pytest.mark.parametrize(
    ("version", "info", "message"),
    [
        (NEW, WITHOUT_RUNTIME, "could not select .*: install the NVIDIA container toolkit and restart Docker"),
        (OLD, WITHOUT_RUNTIME, r"Docker 18.09.9 \(API 1.39\) has no runtime nvidia .*: install the NVIDIA container"),
        (PODMAN, WITH_RUNTIME, "podman .* without the GPUs .*: use Docker"),
    ],
)
def test_engine_without_gpu_support_is_reported(version: dict[str, Any], info: dict[str, Any], message: str) -> None:
    mock = MockDocker(version, info, driver=False)
    with pytest.raises(ContainerError, match=message):
        start(mock)
    assert mock.removed == [str(number) for number, _ in enumerate(mock.created, 1)]


def test_container_without_gpus_has_no_gpu_request() -> None:
    mock = MockDocker({}, {}, driver=False)
    with ContainerEngine(mock).container(ContainerSpec("i", ("c",), "1:1"), lambda part: None):  # type: ignore[arg-type]
        assert "Runtime" not in mock.created[0]["HostConfig"] and "DeviceRequests" not in mock.created[0]["HostConfig"]


def test_real_engine_without_gpus_starts_no_gpu_container(container_image: str) -> None:
    if gpu_names():
        pytest.skip("this machine has a GPU")
    spec = ContainerSpec(container_image, ("bash", "-c", "exit"), "65534:65534", gpus=(0,))
    with (
        ContainerEngine.connect() as engine,
        pytest.raises(ContainerError, match="NVIDIA container toolkit"),
        engine.container(spec, lambda part: None),
    ):
        pass
