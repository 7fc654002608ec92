from __future__ import annotations

import datetime
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.images import built_image_name
from deployment_toolkit.core import Batching, Format
from deployment_toolkit.errors import DeploymentError, UsageError
from deployment_toolkit.options.mapping import to_plain
from deployment_toolkit.server_access.access_options import AccessOptions
from runner.__main__ import read_command_line
from runner.config.run import RunConfig, load_config
from runner.experiment import Experiment
from runner.workspace import create_workspace
from tests.runner.conftest import experiment


def test_shipped_configurations_load() -> None:
    config = load_config(ROOT / "runner" / "config_CPU.yaml")
    assert [item.parameters.format for item in config.configurations][:2] == [Format.TF_SAVEDMODEL, Format.ONNX]
    assert config.batching is Batching.DYNAMIC and config.time_budget_minutes == 10
    ensemble = load_config(ROOT / "runner" / "config_CPU-ensemble.yaml")
    assert ensemble.ensemble_model_name == "RawWidenDeep"
    assert ensemble.configurations == config.configurations[1:2]


def test_configuration_is_unchanged_after_writing_and_loading(small_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config))
    config = load_config(path)
    path.write_text(yaml.safe_dump(to_plain(config)))
    assert load_config(path) == config


def test_time_budget_of_the_command_line_goes_before_that_of_the_file(
    small_config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | {"time_budget_minutes": 3}))
    command = ["--config-path", str(path)]
    assert read_command_line(command)[0].time_budget_minutes == 3
    assert read_command_line([*command, "--time-budget-minutes", "0"])[0].time_budget_minutes == 0
    with pytest.raises(UsageError, match=r"time_budget_minutes must be a number from 0 \(no limit\) on, not -1"):
        read_command_line([*command, "--time-budget-minutes", "-1"])


def _set(config: Any, dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for name in parents:
        config = config[int(name) if name.isdigit() else name]
    config[last] = value


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("modl_name", "x", "unknown key modl_name, did you mean model_name?"),
        ("configurations.0.parameters.presision", "fp32", "unknown key presision, did you mean precision?"),
        ("batching", "dynamik", "batching: 'dynamik' is none of disabled, static, dynamic"),
        ("configurations.0.parameters.max_batch_size", 0, "max_batch_size must be at least 1, not 0"),
        ("configurations.0.parameters.max_batch_size", "many", "expected int, found 'many'"),
        ("configurations.0.parameters.threads", 0, "threads must be at least 1, not 0"),
        ("configurations.0.parameters.host", "pithon", "host: 'pithon' is none of native, python"),
        ("configurations.0.parameters.preferred_batch_sizes", [], "preferred_batch_sizes must hold at least one size"),
        ("configurations.0.parameters.preferred_batch_sizes", [8, 65], "65 is outside 1 .. 64, max_batch_size"),
        ("configurations.0.parameters.warmup_batch_sizes", [65], "65 is outside 1 .. 64, max_batch_size"),
        ("configurations.0.parameters.latency_budget_ms", 0, "latency_budget_ms 0: use a number above 0"),
        ("configurations.0.parameters.default_priority_level", 1, "default_priority_level 1 needs priority_levels"),
        ("configurations.0.parameters.max_queue_delay_us", -1, "max_queue_delay_us can't be negative"),
        ("configurations.0.checkpoint", "other", "uses checkpoint other, which checkpoints does not list"),
        ("measurement_steps_online", 0, "measurement_steps_online must be at least 1"),
        ("ensemble_model_name", "WidenDeep", "ensemble_model_name 'WidenDeep': give a name that is not model_name"),
        ("datasets", [], "datasets must hold at least one entry"),
        ("correctness", {"atol": "small"}, "correctness: atol: expected float, found 'small'"),
        ("correctness", {"atol": -1}, "atol must be at least 0, not -1"),
        ("correctness", {"rtol": float("inf")}, "correctness: rtol: inf is no finite number"),
        ("correctness", {"max_map_loss": "1e999"}, "max_map_loss: '1e999' is no finite number"),
        ("correctness", {"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ("correctness", {"metrics": {"auc": {"max_loss": -1}}}, "metrics: auc: max_loss must be at least 0, not -1"),
        ("configurations.0.parameters.max_batch_size", 10**20, "max_batch_size: 100000000000000000000 is out of range"),
        ("configurations.0.parameters.number_of_model_instances", 10**6, "must be at most 1024, not 1000000"),
        ("configurations.0.parameters.threads", 2**31 - 1, "threads must be at most 1024, not 2147483647"),
        ("measurement_steps_offline", 2**31 - 1, "measurement_steps_offline must be at most 1000"),
        ("time_budget_minutes", -1, "time_budget_minutes must be a number from 0 (no limit) on, not -1"),
        ("measurement", {"request_count": 0}, "request_count must be at least 1, not 0"),
        ("measurement", {"retries": -1}, "retries must be at least 0, not -1"),
        ("measurement", {"stability_percentage": 0}, "stability_percentage must be above 0, not 0"),
        ("demo_data", {"displays": 0}, "displays must be at least 1, not 0"),
        ("demo_data", {"seed": -1}, "seed must be at least 0, not -1"),
        ("training", {"epochs": -2}, "epochs must be at least 1, not -2"),
        ("deep_hidden_units", [], "the number of deep_hidden_units must be at least 1"),
        ("deep_hidden_units", [16, 0], "deep_hidden_units must be at least 1, not 0"),
        ("search", {"concurrency": [16, 10**6]}, "search: concurrency must be at most 1024, not 1000000"),
        ("http_port", 65536, "http_port must be at most 65535, not 65536"),
        ("datasets.0.name", "../outbrain", "datasets[1]: name '../outbrain' can't be the name of a folder"),
        ("datasets.0.name", "..", "name '..' can't be the name of a folder"),
        ("datasets.0.name", "", "name '' can't be the name of a folder"),
        ("checkpoints.0.name", "/etc", "checkpoints[1]: name '/etc' can't be the name of a folder"),
        ("checkpoints.0.name", "a\nb", "can't be the name of a folder"),
        ("checkpoints.0.name", "n" * 300, "is 300 bytes long, more than 200: choose a shorter name"),
        ("checkpoints.0.url", "https://[half", "must start with https or file or http:"),
        ("model_name", "../../up", "model_name '../../up': a model's name is made of letters"),
        ("ensemble_model_name", "a/b", "ensemble_model_name 'a/b': a model's name is made of letters"),
        ("model_name", datetime.date(2024, 2, 28), "model_name: expected str, found 2024-02-28: put it into quotes"),
    ],
)
def test_wrong_value_is_named_with_its_place(
    small_config: dict[str, Any], tmp_path: Path, key: str, value: Any, message: str
) -> None:
    plain = yaml.safe_load(yaml.safe_dump(small_config))
    _set(plain, key, value)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(UsageError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert re.match(rf"{re.escape(str(path))}:\d+: ", str(caught.value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"performance_tool": "model_analyzer"}, "model_analyzer measures no ensembles"),
        ({"triton_launch_mode": "docker", "container_version": "25.02"}, "use triton_launch_mode embedded"),
    ],
)
def test_settings_that_exclude_an_ensemble_are_refused(
    small_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | changes | {"ensemble_model_name": "RawWidenDeep"}))
    with pytest.raises(UsageError, match=message):
        load_config(path)


@pytest.mark.parametrize(
    ("changes", "parameters", "message"),
    [
        ({}, {"host": "native"}, "host native needs triton_launch_mode docker or remote"),
        ({}, {"host": "auto", "threads": 2}, "threads are told to a host of this project, not to auto: add host: "),
        ({"container_version": "25.07"}, {"device_kind": "gpu", "threads": 2}, "threads are told to a host of"),
        (
            {"container_version": "25.07"},
            {"packed_inputs": True, "format": "trt", "precision": "fp16", "device_kind": "gpu"},
            "packed_inputs: only tf-savedmodel, onnx, openvino can be changed, not trt",
        ),
        ({"ensemble_model_name": "raw"}, {"packed_inputs": True}, "packed_inputs, but preprocessing in an ensemble"),
        ({"batching": "static"}, {"preferred_batch_sizes": [8]}, "preferred_batch_sizes is for batching dynamic, not"),
        ({"batching": "static"}, {"latency_budget_ms": 9}, "a queue with limits or priorities is for batching dynamic"),
        ({}, {"priority_levels": 2, "max_queue_delay_us": 9}, "max_queue_delay_us 9: with a queue that has limits"),
        ({"batching": "disabled"}, {"warmup_batch_sizes": [2]}, "warmup_batch_sizes above 1 are for a server that"),
        ({"batching": "disabled"}, {"max_queue_delay_us": 9}, "max_queue_delay_us is for batching dynamic, not"),
        (
            {"container_version": "25.07"},
            {"host": "python", "format": "trt", "precision": "fp16", "device_kind": "gpu"},
            "host python: there is no Python host for trt",
        ),
        ({}, {"host": "python", "backend_accelerator": "amp"}, "host python: accelerator amp belongs to a native"),
    ],
)
def test_settings_that_the_host_does_not_support_are_refused(
    small_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], parameters: dict[str, Any], message: str
) -> None:
    plain = small_config | changes | {"configurations": [experiment(**parameters)]}
    with pytest.raises(UsageError) as caught:
        load_config(_write(tmp_path, plain))
    assert f"configuration 1: {message}" in str(caught.value)


def test_checkpoints_have_names_of_their_own(small_config: dict[str, Any], tmp_path: Path) -> None:
    plain = small_config | {"checkpoints": [{"name": "small"}, {"name": "small", "url": "https://a/b.zip"}]}
    with pytest.raises(UsageError, match="checkpoints: two are named small, rename one"):
        load_config(_write(tmp_path, plain))


def test_contradiction_is_told_with_the_line_of_its_experiment_or_key(
    small_config: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "config.yaml"
    plain = small_config | {"configurations": [experiment(), experiment(threads=2, host="auto")]}
    lines = yaml.safe_dump(plain).splitlines()
    path.write_text("\n".join(lines))
    (second,) = [number for number, line in enumerate(lines, 1) if line.startswith("- checkpoint:")][1:]
    with pytest.raises(UsageError, match=f"config.yaml:{second}: configuration 2: threads are told to a host"):
        load_config(path)
    lines = yaml.safe_dump(small_config | {"from_image_name": "debian:12", "container_version": "25.07"}).splitlines()
    path.write_text("\n".join(lines))
    number = 1 + lines.index("from_image_name: debian:12")
    with pytest.raises(UsageError, match=f"config.yaml:{number}: from_image_name is what triton_dockerfile builds"):
        load_config(path)


@pytest.mark.parametrize("key", ["model_name", "datasets_dir", "configurations"])
def test_missing_key_is_named(small_config: dict[str, Any], tmp_path: Path, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in small_config.items() if name != key}))
    with pytest.raises(UsageError, match=rf"{path}:\d+: key {key} is missing"):
        load_config(path)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not YAML"), ("- a", "expected keys and values, found a list")])
def test_configuration_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(DeploymentError, match=message):
        load_config(path)


MIXED = {
    "container_version": "25.07",
    "http_port": 8000,
    "configurations": [
        experiment() | {"triton_launch_mode": "embedded"},
        experiment() | {"triton_container_image": "mine:1"},
        experiment() | {"triton_launch_mode": "remote"},
    ],
    "triton_http_url": "far:1",
    "triton_grpc_url": "grpc://far:2",
    "triton_model_repository": "models",
}


def _modes(config: RunConfig) -> list[str]:
    return [str(config.launch_mode_of(item)) for item in config.configurations]


def test_experiments_have_separate_launch_modes(small_config: dict[str, Any], tmp_path: Path) -> None:
    config = load_config(_write(tmp_path, small_config | MIXED))
    assert _modes(config) == ["embedded", "docker", "remote"]
    assert (str(config.http_server), str(config.grpc_server)) == ("http://far:1", "grpc://far:2")
    workspace = create_workspace(tmp_path / "workspace")
    made = [Experiment.create(config, number, workspace, ()) for number in (1, 2, 3)]
    assert [item.server_config.image for item in made] == [None, "mine:1", None]
    assert made[2].folders.model_store == Path("models").resolve()
    alone = {name: value for name, value in MIXED.items() if name not in ("configurations", "http_port")}
    config = load_config(_write(tmp_path, small_config | alone | {"triton_launch_mode": "remote"}, "container_version"))
    assert _modes(config) == ["remote"]


def test_access_of_a_remote_server_is_configured_and_overridden(
    small_config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    access = {"ca_certificate": "ca.pem", "header_file": ["headers"], "header_env": ["A"]}
    path = _write(tmp_path, small_config | MIXED | access)
    config, _, _ = read_command_line(["--config-path", str(path), "--header-env", "B", "C"])
    assert config.server_config(3).access == AccessOptions(Path("ca.pem"), None, None, [Path("headers")], ["B", "C"])
    assert config.server_config(1).client_options == []
    with caplog.at_level(logging.INFO):
        config, _, _ = read_command_line(["--config-path", str(path), "--triton-launch-mode", "embedded"])
    assert "ca_certificate, header_file, header_env" in caplog.text
    assert config.access == AccessOptions()


def test_user_of_a_url_reaches_commands_in_a_variable(small_config: dict[str, Any], tmp_path: Path) -> None:
    urls = {"triton_http_url": "https://me:hidden@far", "triton_grpc_url": "grpcs://me:hidden@far"}
    config = load_config(_write(tmp_path, small_config | MIXED | urls | {"header_env": ["A"]}))
    server = config.server_config(3)
    assert server.client_options == ["--header-env", "A", "TRITON_URL_AUTHORIZATION"]
    assert server.client_variables == {"TRITON_URL_AUTHORIZATION": "authorization: Basic bWU6aGlkZGVu"}
    assert (str(server.http_url), str(server.distant)) == ("https://far:443", "grpcs://far:443")


def test_launch_mode_option_applies_to_all_experiments(
    small_config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = _write(tmp_path, small_config | MIXED)
    command = ["--config-path", str(path), "--triton-launch-mode"]
    with caplog.at_level(logging.INFO):
        config, numbers, _ = read_command_line([*command, "embedded", "--experiments", "3", "2", "3"])
    assert (_modes(config), numbers) == (["embedded"] * 3, [2, 3])
    assert config.http_port == 8000
    assert (config.container_version, config.triton_http_url) == (None, None)
    (told,) = caplog.messages
    assert told == (
        "--triton-launch-mode embedded: ignored of the configuration: container_version, triton_http_url, "
        "triton_grpc_url, triton_model_repository, triton_container_image"
    )
    config, numbers, _ = read_command_line([*command, "remote", "--triton-grpc-url", "near:3"])
    assert (_modes(config), numbers) == (["remote"] * 3, [1, 2, 3])
    assert (str(config.grpc_server), config.http_port, config.container_version) == ("grpc://near:3", None, None)
    config, _, _ = read_command_line([*command, "docker"])
    assert _modes(config) == ["docker"] * 3
    assert config.triton_image(config.configurations[1]) == "mine:1"
    with pytest.raises(UsageError, match=f"experiment 4: {path} has the experiments 1 to 3"):
        read_command_line(["--config-path", str(path), "--experiments", "4"])


def test_experiments_that_do_not_run_are_not_checked(small_config: dict[str, Any], tmp_path: Path) -> None:
    experiments = [experiment(device_kind="gpu", format="trt", precision="fp16"), experiment()]
    path = _write(tmp_path, small_config | {"configurations": experiments})
    with pytest.raises(UsageError, match="configuration 1: device_kind gpu needs"):
        read_command_line(["--config-path", str(path)])
    assert read_command_line(["--config-path", str(path), "--experiments", "2"])[1] == [2]


def test_dockerfile_is_searched_here_and_then_in_the_project(
    small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = small_config | {"triton_dockerfile": "Dockerfile", "from_image_name": "debian:12"}
    path = _write(tmp_path, plain)
    monkeypatch.chdir(tmp_path)
    config = load_config(path)
    assert (config.dockerfile, config.from_image_name) == (ROOT / "Dockerfile", "debian:12")
    made = Experiment.create(config, 1, create_workspace(tmp_path / "workspace"), ())
    assert made.server_config.image == built_image_name(ROOT / "Dockerfile", "debian:12")
    (tmp_path / "Dockerfile").touch()
    assert config.dockerfile is not None and config.dockerfile.resolve() == tmp_path / "Dockerfile"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"triton_http_url": "grpc://far:1"},
            "triton_http_url grpc://far:1 is an address of grpc: write it as http://",
        ),
        ({"triton_grpc_url": "far:x"}, "the port is not a number"),
        (
            {"triton_grpc_url": "me:hidden@far:2"},
            "triton_http_url and triton_grpc_url are of one server, but have diff",
        ),
        ({"client_key": "key.pem"}, "--client-certificate and --client-key go together"),
        ({"triton_model_repository": None}, "triton_launch_mode remote needs triton_model_repository: add it"),
        ({"performance_tool": "model_analyzer"}, "triton_launch_mode remote: model_analyzer measures a server of its"),
        ({"from_image_name": "debian:12"}, "from_image_name is what triton_dockerfile builds on"),
        (
            {"configurations": [experiment()]},
            "triton_http_url says which running server, triton_launch_mode docker needs none: leave one of them out",
        ),
    ],
)
def test_settings_that_contradict_the_launch_mode_are_refused(
    small_config: dict[str, Any], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_config(_write(tmp_path, small_config | MIXED | changes))
    assert message in str(caught.value) and "secret" not in str(caught.value)


def _write(folder: Path, plain: dict[str, Any], *without: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in plain.items() if name not in without}))
    return path
