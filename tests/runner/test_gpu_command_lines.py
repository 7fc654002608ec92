"""Command lines and servers of all shipped configurations with GPUs or containers, compared with
gpu_command_lines.yaml. The tests use no GPU and no container engine."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

import runner.servers
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.images import built_image_name
from deployment_toolkit.containers.spec import LABEL, ContainerSpec
from deployment_toolkit.server_access.private_options import build_library
from deployment_toolkit.triton_server.remote import TritonServer
from runner.config.experiment import TritonLaunchMode
from runner.config.run import load_config
from runner.experiment import Experiment
from runner.servers import require_launchable, server_for
from runner.stages.network import STAGES
from runner.workspace import create_workspace
from tests.runner.conftest import RecordingShell

TABLE = yaml.safe_load(Path(__file__).with_name("gpu_command_lines.yaml").read_text())
EXPECTED = TABLE["configurations"]
ON_THE_CPU = ("CPU", "CPU-ensemble")  # neither a GPU nor a container
SHIPPED = [path.stem.removeprefix("config_") for path in sorted((ROOT / "runner").glob("config_*.yaml"))]
DEVICES = (0, 2)


class _CapturedError(Exception):
    """Raised in place of starting a container."""


@pytest.fixture
def experiments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Experiment]]:
    """Experiments of a shipped configuration, run by a user who is not root, with a ready server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 1001)

    def made(name: str) -> list[Experiment]:
        config = load_config(ROOT / "runner" / f"config_{name}.yaml")
        workspace = create_workspace(tmp_path / "workspace")
        server = TritonServer(http_url="http://127.0.0.1:8000", grpc_url="grpc://127.0.0.1:8001")
        experiments = [Experiment.create(config, number, workspace, DEVICES) for number in config.experiment_numbers]
        return [dataclasses.replace(experiment, server=server) for experiment in experiments]

    return made


@pytest.fixture
def mock_engine(monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """A mock of a container engine. It has every image, builds any, and starts no container."""
    engine = mock.Mock()
    engine.require_image.return_value = {}
    engine.container.side_effect = _CapturedError

    @contextlib.contextmanager
    def connect() -> Iterator[mock.Mock]:
        yield engine

    monkeypatch.setattr(ContainerEngine, "connect", connect)
    return engine


def test_shipped_configurations_have_expected_command_lines() -> None:
    assert set(SHIPPED) == {*EXPECTED, *ON_THE_CPU}


@pytest.mark.parametrize("name", EXPECTED)
def test_configuration_gives_the_expected_command_lines(
    name: str, experiments: Callable[[str], list[Experiment]]
) -> None:
    for experiment, values in zip(experiments(name), EXPECTED[name], strict=True):
        stages = {stage.name: stage for stage in STAGES}
        for stage, text in TABLE["commands"].items():
            shell = RecordingShell()
            stages[stage].run(experiment, shell)
            (command,) = shell.commands
            expected = text.format(**values).format(**values)  # values hold the image themselves
            assert _words(experiment, command.argv) == " ".join(expected.split())


@pytest.mark.parametrize("name", EXPECTED)
def test_configuration_gives_the_expected_servers(
    name: str,
    experiments: Callable[[str], list[Experiment]],
    mock_engine: mock.Mock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys: list[str] = []
    monkeypatch.setattr(runner.servers, "local_server", embedded := mock.Mock(name="a mock of the embedded server"))
    for experiment, values in zip(experiments(name), EXPECTED[name], strict=True):
        repository = experiment.folders.model_store
        repository.mkdir(parents=True, exist_ok=True)
        if values["image"] is None:
            assert experiment.server_config.mode is TritonLaunchMode.EMBEDDED
            server_for(experiment)
            assert embedded.call_args.args == (repository,)
            assert list(embedded.call_args.kwargs["devices"]) == values["gpus"]
            continue
        if values["image"] == "BUILT" and experiment.number == 1:  # once for all of them
            require_launchable(load_config(ROOT / "runner" / f"config_{name}.yaml"), [0])
        with pytest.raises(_CapturedError), server_for(experiment):
            pass
        spec: ContainerSpec = mock_engine.container.call_args.args[0]
        body = spec.to_api()
        key = next(filter(None, (re.search(r":wide-deep-key=([\w-]{43})$", item) for item in body["Env"])))[1]
        assert key not in keys  # another for each start
        keys.append(key)
        assert body == _create_body(values, repository, spec.command, key)
        built = [call.args for call in mock_engine.build_image.call_args_list]
        base = {"FROM_IMAGE_NAME": values.get("built_on")}
        assert built == ([(ROOT / "Dockerfile", spec.image, base)] if values["image"] == "BUILT" else [])


def _create_body(values: dict[str, Any], repository: Path, command: tuple[str, ...], key: str) -> dict[str, Any]:
    """Body of ``POST /containers/create`` for the server of an experiment."""
    assert command[0] == "tritonserver"
    assert {f"--model-repository={repository}", "--model-control-mode=explicit"} <= set(command)
    built = built_image_name(ROOT / "Dockerfile", values.get("built_on"))
    gpus = [str(index) for index in values["gpus"]]
    limits = [
        {"Name": "memlock", "Soft": -1, "Hard": -1},
        {"Name": "stack", "Soft": 67108864, "Hard": 67108864},
    ]
    library = build_library()
    restricted = f"model-repository,shared-memory,trace,logging:wide-deep-key={key}"
    options = f"--http-restricted-api={restricted}\n--grpc-restricted-protocol={restricted}"
    request = [{"Driver": "", "DeviceIDs": gpus, "Capabilities": [["gpu"]]}]
    return {
        "Image": built if values["image"] == "BUILT" else values["image"],
        "Cmd": list(command),
        "User": "1000:1001",
        "Env": ["HOME=/tmp", f"LD_PRELOAD={library}", f"WIDE_DEEP_PRIVATE_OPTIONS={options}"],
        "WorkingDir": "",
        "ExposedPorts": {f"{port}/tcp": {} for port in (8000, 8001, 8002)},
        "Labels": {LABEL: ""},
        "HostConfig": {
            "Mounts": [
                {"Type": "bind", "Source": path, "Target": path, "ReadOnly": True}
                for path in sorted((str(repository), str(library)))
            ],
            "PortBindings": {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}] for port in (8000, 8001, 8002)},
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "IpcMode": "host",
            **({"DeviceRequests": request, "Ulimits": limits} if gpus else {}),
        },
    }


def _words(experiment: Experiment, argv: tuple[str, ...]) -> str:
    """A command line with short names for common parts: programs, folders, the data."""
    line = " ".join(argv)
    data = f"--dataloader {ROOT}/dataloader.py --data-pattern {experiment.network.valid_pattern}"
    for long, short in (
        (str(Path(sys.executable).with_name("model-navigator")), "model-navigator"),
        (sys.executable, "python"),
        (f"--workspace-path {experiment.folders.shared}/navigator_workspace --verbose", "WORKSPACE"),
        (f"--batch-size {experiment.parameters.max_batch_size}", "ROWS"),
        (f"{data} ROWS", "ROWS"),
        (str(experiment.exported), "EXPORTED"),
        (str(experiment.folders.converted), "CONVERTED"),
        (str(experiment.folders.model_store), "MODEL_STORE"),
        (str(experiment.folders.results), "RESULTS"),
        (f"{ROOT}/", ""),
    ):
        line = line.replace(long, short)
    return line
