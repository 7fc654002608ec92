"""A complete run with a server that already runs."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

import runner.pipeline
from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access.key_files import FOLDER_VARIABLE
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from runner.__main__ import main
from runner.config.run import load_config
from runner.pipeline import run_pipeline
from runner.stages.ensemble import ENSEMBLE_STAGES
from runner.stages.network import STAGES as ALL_STAGES
from runner.workspace import create_workspace
from tests.proxy_program import needs_haproxy
from tests.runner.conftest import DEADLINE_S, STAGES, experiment, rows, states, task
from tests.tls_proxy import (
    BASIC,
    PASSWORD,
    SECRET,
    USER,
    Authority,
    Door,
    files_with,
    no_command_line_shows,
    tls_proxy,
)

Plain = dict[str, Any]
NEIGHBOUR = "neighbour"


@pytest.fixture
def theirs(adder_repository: Path, tmp_path: Path) -> Iterator[tuple[TritonServer, Path]]:
    """A running server with a model, and its model repository."""
    repository = tmp_path / "theirs"
    folder = shutil.copytree(adder_repository / "adder", repository / NEIGHBOUR)
    (folder / "config.pbtxt").write_text((folder / "config.pbtxt").read_text().replace('"adder"', f'"{NEIGHBOUR}"'))
    with local_server(repository, log_path=tmp_path / "theirs.log") as server:
        server.load_model(NEIGHBOUR, timeout_s=60)
        yield server, repository


@pytest.fixture
def elsewhere(theirs: tuple[TritonServer, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Plain]:
    """Keys of a configuration for this server behind a proxy with TLS that asks for a user and a client's certificate.
    The folder of keys has the server's for the proxy's addresses."""
    server, _ = theirs
    assert server.key_file is not None
    authority = Authority(tmp_path / "authority")
    rule = "http-request deny deny_status 401 unless { http_auth(known) }"
    door = Door(authority.for_server("server"), f"ca-file {authority.certificate} verify required", rule)
    with tls_proxy(server, {"theirs": door}, tmp_path) as ports:
        keys = tmp_path / "keys"
        keys.mkdir(mode=0o700)
        for port in ports.values():
            shutil.copy(server.key_file, keys / f"127.0.0.1:{port}")
        monkeypatch.setenv(FOLDER_VARIABLE, str(keys))
        certificate, key = authority.issue("client")
        user = f"{USER}:{quote(PASSWORD, safe='')}@"
        yield {
            "triton_http_url": f"https://{user}localhost:{ports['theirs_http']}",
            "triton_grpc_url": f"grpcs://{user}localhost:{ports['theirs_grpc']}",
            "ca_certificate": str(authority.certificate),
            "client_certificate": str(certificate),
            "client_key": str(key),
        }


@needs_haproxy
def test_remote_run_through_tls_passes_tells_no_password_and_leaves_the_server_unchanged(
    small_config: Plain,
    start_runner: Callable[..., subprocess.Popen[str]],
    theirs: tuple[TritonServer, Path],
    elsewhere: Plain,
    nothing_left: None,
) -> None:
    server, repository = theirs
    configured = {
        "configurations": [experiment(format="tf-savedmodel"), experiment(export_format="onnx", max_batch_size=8)],
        "http_port": 1,
    }
    # The first windows are short for the handshakes on a busy machine; those that end with a result will do.
    measurement = {"retries": 3, "window_ms": 200, "stability_percentage": 1e6}
    with no_command_line_shows(SECRET, BASIC) as seen:
        process = start_runner(
            small_config | configured | elsewhere | {"measurement_steps_online": 1, "measurement": measurement},
            *("--triton-launch-mode", "remote", "--experiments", 2, "--triton-model-repository", repository),
        )
        printed, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, printed
    assert "perf_analyzer" in seen and SECRET not in printed and BASIC not in printed
    assert re.search("--triton-launch-mode remote: ignored of the configuration: http_port$", printed, re.MULTILINE)
    (line,) = (line for line in printed.splitlines() if line.startswith("report: "))
    run = Path(line.removeprefix("report: ")).parent
    assert states(run, 2) == dict.fromkeys(STAGES, "ok")
    assert states(run, 1) == {}
    assert not (run / "experiment_1").exists()
    results = run / "experiment_2"
    assert "max_batch_size: 8" in (results / "config.pbtxt").read_text()
    assert all(row["passed"] == "True" for row in rows(results / "correctness.csv"))
    assert [row["Batch"] for row in rows(results / "triton_performance_offline.csv")] == ["1", "8"]
    assert len(rows(results / "triton_performance_online.csv")) == 1
    assert not files_with(run, SECRET, BASIC)
    assert ': "${TRITON_URL_AUTHORIZATION:?export it' in (results / "replay.sh").read_text()
    config = task(run)["config"]
    assert config["triton_grpc_url"] == elsewhere["triton_grpc_url"].replace(
        f"{USER}:{quote(PASSWORD, safe='')}", "***"
    )
    assert (config["triton_launch_mode"], config["http_port"]) == ("remote", None)
    assert server.has_loaded(NEIGHBOUR) and not server.has_loaded("WidenDeep")
    assert [path.name for path in repository.iterdir()] == [NEIGHBOUR]


def test_existing_model_on_the_server_stops_the_run_at_once(
    small_config: Plain, theirs: tuple[TritonServer, Path], tmp_path: Path
) -> None:
    server, repository = theirs
    before = {path for path in repository.rglob("*") if "__pycache__" not in path.parts}
    path = _write(tmp_path, _remote(small_config, server.http_url, server.grpc_url, repository))
    plain = yaml.safe_load(path.read_text()) | {"model_name": NEIGHBOUR}
    path.write_text(yaml.safe_dump(plain))
    with pytest.raises(ServerError, match=f"has a model {NEIGHBOUR} already, which is not overwritten"):
        main(["--config-path", str(path), "--workspace-path", str(tmp_path / "workspace")])
    assert not (tmp_path / "workspace").exists()
    assert {path for path in repository.rglob("*") if "__pycache__" not in path.parts} == before
    assert server.has_loaded(NEIGHBOUR)


def test_offline_measurements_are_skipped_for_another_host(
    small_config: Plain,
    workspace_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert [stage.name for stage in (*ALL_STAGES, *ENSEMBLE_STAGES) if stage.shares_memory] == [
        "performance offline",
        "ensemble performance offline",
    ]
    monkeypatch.setattr(runner.pipeline, "stages_of", lambda config: [s for s in ALL_STAGES if s.shares_memory])
    config = load_config(_write(tmp_path, _remote(small_config, "http://far:1", "grpc://far:2", tmp_path)))
    workspace = create_workspace(workspace_root)
    assert run_pipeline(config, workspace, "a test", {}, io.StringIO(), refused={}, keep_models=False) == 0
    (record,) = (stage for stage in task(workspace.run)["stages"] if stage["experiment"] == 1)
    assert (record["state"], record["message"]) == (
        "skipped",
        "it needs the server's shared memory, and grpc://far:2 is another host",
    )
    report = (workspace.run / "report.md").read_text()
    assert "Every stage passed but for those that could not be run:" in report
    assert "- experiment 1, performance offline: it needs the server's shared memory" in report


def _remote(config: Plain, http: str, grpc: str, repository: Path) -> Plain:
    urls = {"triton_http_url": http, "triton_grpc_url": grpc}
    return config | urls | {"triton_launch_mode": "remote", "triton_model_repository": str(repository)}


def _write(folder: Path, plain: Plain) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(plain))
    return path
