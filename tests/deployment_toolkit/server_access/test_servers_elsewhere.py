"""A real server behind a proxy with TLS: what a client has to show and to check, over both protocols."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from deployment_toolkit.capacity.client import open_client
from deployment_toolkit.capacity.loadgen import run_load
from deployment_toolkit.capacity.loads import OfferedLoad
from deployment_toolkit.capacity.schedule import close_schedule
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch
from deployment_toolkit.errors import AccessError, PerformanceError, ServerError
from deployment_toolkit.process import child, run
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.access_options import AccessOptions
from deployment_toolkit.server_access.key_files import FOLDER_VARIABLE
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.health import __main__ as health
from deployment_toolkit.triton_server.remote import TritonServer
from tests.deployment_toolkit.server_access.conftest import TlsDoors
from tests.proxy_program import needs_haproxy
from tests.tls_proxy import BASIC, PASSWORD, SECRET, TOKEN, USER, files_with, no_command_line_shows

pytestmark = needs_haproxy
BOTH = pytest.mark.parametrize("scheme", ["http", "grpc"])


def _access(doors: TlsDoors, **changes: Any) -> AccessOptions:
    return AccessOptions(**{"ca_certificate": doors.authority.certificate, **changes})


def _asked(options: AccessOptions, url: str) -> float:
    """Answer of the model to one row: 1 + 1 + 2 + 3."""
    row = Batch(np.zeros(1, np.int32), {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)})
    limits: dict[str, Any] = {"max_unresponded_requests": 4, "response_wait_time_s": 30, "synchronous": False}
    with open_session(options.url(url), "adder", "1", **limits) as session:
        (prediction,) = session.predict([row])
    return float(prediction.y_pred["y"][0, 0])


@BOTH
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_inference_and_control_through_tls(doors: TlsDoors, scheme: str, host: str) -> None:
    options, url = _access(doors), doors.url("open", scheme, host)
    assert _asked(options, url) == 7
    with pytest.raises(ServerError, match="is restricted, expecting header .*wide-deep-key"):
        TritonServer.from_url(options.url(url)).load_model("adder", timeout_s=30)


@BOTH
def test_probe_through_tls(doors: TlsDoors, scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    health.main(
        [
            *("--server-url", doors.url("open", scheme), "--model-name", "adder", "--timeout-s", "30"),
            *("--ca-certificate", str(doors.authority.certificate)),
        ]
    )
    assert "model adder answers" in capsys.readouterr().out


@BOTH
def test_client_certificate(doors: TlsDoors, scheme: str) -> None:
    url = doors.url("client", scheme)
    certificate, key = doors.client
    assert _asked(_access(doors, client_certificate=certificate, client_key=key), url) == 7
    with pytest.raises(AccessError, match="asks for this client's certificate .*: give --client-certificate and"):
        _asked(_access(doors), url)
    certificate, key = doors.strange_client
    with pytest.raises(AccessError, match=rf"refuses this client's certificate {certificate} .*: ask its owner"):
        _asked(_access(doors, client_certificate=certificate, client_key=key), url)


@BOTH
@pytest.mark.parametrize(
    ("door", "message"),
    [
        ("expired", "its certificate is not valid today .*: its owner has to renew it"),
        ("other", "its certificate is for another host .*'localhost'.*: give the host's name that the certificate has"),
    ],
)
def test_wrong_certificate_of_a_server(doors: TlsDoors, scheme: str, door: str, message: str) -> None:
    with pytest.raises(AccessError, match=message) as refused:
        _asked(_access(doors), doors.url(door, scheme))
    assert "\n" not in str(refused.value)


@BOTH
def test_unknown_authority_and_missing_tls(doors: TlsDoors, adder_server: TritonServer, scheme: str) -> None:
    trusted = doors.stranger.certificate
    with pytest.raises(
        AccessError, match=f"nobody in {trusted} vouches for its certificate .*: give its CA with --ca-"
    ):
        _asked(_access(doors, ca_certificate=trusted), doors.url("open", scheme))
    with pytest.raises(AccessError, match="nobody in .* vouches"):
        TritonServer.from_url(AccessOptions().url(doors.url("open", scheme))).wait_ready(timeout_s=60)
    secure = doors.url("open", scheme)
    with pytest.raises(AccessError, match=f"it wants TLS: write {secure}"):
        _asked(AccessOptions(), secure.replace("s://", "://"))
    plain = adder_server.http_url if scheme == "http" else adder_server.grpc_url
    with pytest.raises(ServerError, match=f"it seems to speak no TLS .*: write {plain}"):
        _asked(_access(doors), plain.replace("://", "s://"))


@BOTH
def test_headers_of_a_file_a_variable_and_the_url(
    doors: TlsDoors, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "header"
    path.write_text(f"Authorization: {TOKEN}\n")
    path.chmod(0o600)
    monkeypatch.setenv("HEADER_OF_THE_TEST", path.read_text())
    url = doors.url("token", scheme)
    assert _asked(_access(doors, header_file=[path]), url) == 7
    assert _asked(_access(doors, header_env=["HEADER_OF_THE_TEST"]), url) == 7
    with pytest.raises(AccessError, match=r"refuses this client .*, which sent no header .*: give the right one with"):
        _asked(_access(doors), url)
    path.write_text("Authorization: Bearer wrong")
    with pytest.raises(AccessError, match="which sent the headers authorization: ") as refused:
        TritonServer.from_url(_access(doors, header_file=[path]).url(url)).wait_ready(timeout_s=60)
    assert "wrong" not in str(refused.value)
    user = f"{USER}:{quote(PASSWORD, safe='')}@"
    parsed = _access(doors).url(doors.url("basic", scheme, user=user))
    assert str(parsed) == doors.url("basic", scheme) and SECRET not in repr(parsed)
    assert _asked(_access(doors), doors.url("basic", scheme, user=user)) == 7
    with pytest.raises(AccessError, match="refuses this client"):
        _asked(_access(doors), doors.url("basic", scheme))


@BOTH
def test_load_generator_through_tls_with_a_header(doors: TlsDoors, scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "header"
    path.write_text(f"Authorization: {TOKEN}\n")
    path.chmod(0o600)
    row = {"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}
    load = OfferedLoad(60.0, close_schedule(60.0, 1.0, 60, seed=1), 1.0, 60, budget_us=1e6, positions=2)
    for options in (_access(doors, header_file=[path]), _access(doors)):
        with closing(open_client(options.url(doors.url("token", scheme)), "adder", "1")) as client:
            client.prepare([row, row])
            client.connect(4)
            if options.header_file:
                result = run_load(client, load, tmp_path / "load_")
                assert result.requests >= 60 and not result.refused and result.latencies_us["p50 latency"] < 1e6
            else:
                with pytest.raises(PerformanceError, match="requests/s failed: .*401|unauthenticated"):
                    run_load(client, load, tmp_path / "load_")


@pytest.fixture
def key_folder(doors: TlsDoors, adder_server: TritonServer, tmp_path: Path) -> Path:
    """Folder with the server's key for the addresses of the door ``token``."""
    assert adder_server.key_file is not None
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    for protocol in ("http", "grpc"):
        path = folder / f"127.0.0.1:{doors.ports[f'token_{protocol}']}"
        path.write_text(adder_server.key_file.read_text())
        path.chmod(0o600)
    return folder


@BOTH
def test_model_control_through_tls_with_key_and_token(
    doors: TlsDoors, scheme: str, key_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(key_folder))
    monkeypatch.setenv("HEADER_OF_THE_TEST", f"Authorization: {TOKEN}")
    url = _access(doors, header_env=["HEADER_OF_THE_TEST"]).url(doors.url("token", scheme))
    server = TritonServer.from_url(url)
    server.load_model("adder", timeout_s=60)
    assert server.ready_models() == ["adder"]


def test_command_about_a_remote_server_reaches_it_through_tls(
    doors: TlsDoors, key_folder: Path, adder_repository: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HEADER_OF_THE_TEST": f"Authorization: {TOKEN}"}
    ready, log = tmp_path / "ready", tmp_path / "log"
    argv: list[str | Path] = [sys.executable, "-m", "deployment_toolkit.triton_server", "--ready-file", ready]
    argv += ["--model-repository", adder_repository, "--models", "other"]
    argv += ["--remote-http-url", doors.url("token", "http"), "--remote-grpc-url", doors.url("token", "grpc")]
    argv += _access(doors, header_env=["HEADER_OF_THE_TEST"]).arguments
    with child(argv, env=env | {FOLDER_VARIABLE: str(key_folder)}, stdout=log) as process:
        deadline = time.monotonic() + 120
        while not ready.exists():
            assert process.wait(0.05) is None and time.monotonic() < deadline, log.read_text()
    assert "still be loaded" not in log.read_text()


@pytest.mark.parametrize(("scheme", "mode", "door"), [("http", "online", "basic"), ("grpc", "offline", "token")])
def test_measurement_through_tls_shows_its_secrets_nowhere(
    doors: TlsDoors, scheme: str, mode: str, door: str, key_folder: Path, tmp_path: Path
) -> None:
    header = f"Authorization: {TOKEN if door == 'token' else f'Basic {BASIC}'}"
    env = {**os.environ, "HEADER_OF_THE_TEST": header, FOLDER_VARIABLE: str(key_folder)}
    table = tmp_path / "run" / "latency.csv"
    argv: list[str | Path] = [sys.executable, ROOT / "run_performance_on_triton.py", "--verbose"]
    argv += ["--server-url", doors.url(door, scheme), "--model-name", "adder", "--result-path", table]
    argv += ["--evaluation-mode", mode, "--batch-sizes", "4"]
    argv += ["--ca-certificate", doors.authority.certificate, "--header-env", "HEADER_OF_THE_TEST", "--retries", "0"]
    argv += ["--measurement-request-count", "5"]
    table.parent.mkdir()
    with no_command_line_shows(SECRET, BASIC) as seen:
        run(argv, env=env, log_path=tmp_path / "run" / "log", timeout_s=120)
    assert {"perf_analyzer", "PATH"} <= seen and "HEADER_OF_THE_TEST" not in seen  # it may be another user's process
    (row,) = read_performance(table)
    assert row["Batch"] == 4 and row["Inferences/Second"] > 0
    assert (table.parent / "latency.log").is_file() and not files_with(table.parent, SECRET, BASIC)
