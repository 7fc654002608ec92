"""Access of another user of the host to a server: predictions work, changes are refused."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process import child
from deployment_toolkit.server_access.key_files import find_key, own_folder
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

STRANGER_ID = 61000  # a server that root starts may run as nobody
# Tries everything, with the clients that everybody has, and tells what came of it. Root starts it: another user may not
# read the packages of a checkout in root's home, so all is imported before.
STRANGER = """
import base64, encodings.idna, json, os, sys, urllib.error, urllib.request
import tritonclient.grpc as grpc

stranger, http_url, grpc_url, made, key_file = sys.argv[1:]
client = grpc.InferenceServerClient(grpc_url.partition("://")[2])
assert client.is_server_ready()
os.setgroups([])
os.setgid(int(stranger))
os.setuid(int(stranger))
os.chdir("/")
code = f"open({made!r}, 'w').close()"
config = json.dumps({"backend": "python", "max_batch_size": 1, "input": [], "output": []})
body = {"parameters": {"config": config, "file:1/model.py": base64.b64encode(code.encode()).decode()}}
region = {"key": "/region", "offset": 0, "byte_size": 4}
told = {}

def post(path, body):
    request = urllib.request.Request(f"{http_url}/v2/{path}", json.dumps(body).encode(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return f"done: {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"

def ask(call, *arguments, **options):
    try:
        return f"done: {call(*arguments, **options)}"
    except Exception as error:
        return str(error)

told["load over HTTP"] = post("repository/models/stranger/load", body)
told["load over gRPC"] = ask(client.load_model, "stranger", config=config, files={"file:1/model.py": code.encode()})
told["unload over HTTP"] = post("repository/models/adder/unload", {})
told["index over gRPC"] = ask(client.get_model_repository_index)
told["memory over HTTP"] = post("systemsharedmemory/region/mine/register", region)
told["memory over gRPC"] = ask(client.register_system_shared_memory, "mine", "/region", 4)
told["trace over HTTP"] = post("trace/setting", {"trace_file": made})
told["log over HTTP"] = post("logging", {"log_file": made})
told["log over gRPC"] = ask(client.update_log_settings, {"log_file": made})
told["key"] = ask(open, key_file)
told["health"] = ask(client.is_server_ready)
told["model"] = ask(client.get_model_config, "adder")
print(json.dumps(told))
"""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture(scope="module")
def server(adder_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    with local_server(adder_repository, log_path=tmp_path_factory.mktemp("server") / "server.log") as running:
        running.load_model("adder", timeout_s=60)
        yield running


@as_root
def test_requests_of_another_user_cannot_change_the_server(server: TritonServer) -> None:
    made = Path("/var/tmp") / f"stranger_{os.getpid()}_{time.monotonic_ns()}"
    assert server.key_file is not None
    arguments = [str(STRANGER_ID), server.http_url, server.grpc_url, str(made), str(server.key_file)]
    try:
        done = subprocess.run([sys.executable, "-c", STRANGER, *arguments], capture_output=True, text=True, timeout=120)
        told = json.loads(done.stdout or done.stderr)
        assert not made.exists(), "the stranger's code ran"
    finally:
        made.unlink(missing_ok=True)
    assert "Permission denied" in told.pop("key")
    assert told.pop("health") == "done: True"
    assert told.pop("model").startswith('done: config {\n  name: "adder"')
    assert len(told) == 9
    for tried, answer in told.items():
        assert "restricted, expecting header" in answer, f"{tried}: {answer}"
    assert server.has_loaded("adder")


@as_root
def test_key_is_hidden_from_other_users(server: TritonServer) -> None:
    assert server.key_file is not None and server.pid is not None
    secret = key_of(server)
    for path in (server.key_file, *server.key_file.parent.iterdir()):
        assert "Permission denied" in as_stranger(["cat", str(path)])
    assert "Permission denied" in as_stranger(["ls", str(server.key_file.parent)])
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    assert len(processes) == 5  # a process per instance of the model
    for process in processes:
        assert secret not in as_stranger(["cat", f"/proc/{process.pid}/cmdline"])
        assert "Permission denied" in as_stranger(["cat", f"/proc/{process.pid}/environ"])
        assert secret not in str(process.environ())  # and not for the models, which read a user's files
        assert "libprivate_options" not in process.environ().get("LD_PRELOAD", "") or process.pid == server.pid
    assert server.log_path is not None and secret not in server.log_path.read_text()


@as_root
def test_memory_and_temporary_files_are_closed_to_other_users(server: TritonServer) -> None:
    """Each request passes through the shared memory of the Python backend."""
    assert server.pid is not None
    processes = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    regions = {item.path for process in processes for item in process.memory_maps() if "/dev/shm/" in item.path}
    assert len(regions) == 4  # one for each instance of the model
    places = {process.environ()["TMPDIR"] for process in processes}
    assert len(places) == 1 and Path(*places).stat().st_mode & 0o777 == 0o700
    for path in regions:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        assert "Permission denied" in as_stranger(["head", "-c", "1", path])
    assert "Permission denied" in as_stranger(["ls", *places])


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_perf_analyzer_registers_shared_memory_and_keeps_the_key(
    server: TritonServer, tmp_path: Path, scheme: str
) -> None:
    url, secret = getattr(server, f"{scheme}_url"), key_of(server)
    result_path = tmp_path / "latency.csv"
    argv = [sys.executable, str(ROOT / "run_performance_on_triton.py"), "--model-name", "adder", "--server-url", url]
    argv += ["--evaluation-mode", "offline", "--batch-sizes", "1", "64", "--concurrency", "2", "--retries", "0"]
    argv += ["--input-data", "zero", "--measurement-request-count", "17", "--result-path", str(result_path)]
    seen: set[str] = set()
    with child(argv, stdout=tmp_path / "printed") as process:
        while process.wait(0.02) is None:
            for member in psutil.Process(process.pid).children(recursive=True):
                try:
                    line = Path(f"/proc/{member.pid}/cmdline").read_text()
                except OSError:  # it has just ended
                    continue
                seen |= {member.name()} if "--shared-memory" in line else set()
                assert secret not in line
        assert process.poll() == 0, (tmp_path / "printed").read_text()
    assert {"perf_analyzer"} <= seen <= {"perf_analyzer", "env", "setpriv", "sh"}  # what became it, too
    assert len(result_path.read_text().splitlines()) == 3
    assert secret not in result_path.with_suffix(".log").read_text()


def test_key_is_found_by_its_owner_and_required_by_the_server(server: TritonServer) -> None:
    for url in (server.http_url, server.grpc_url):
        assert TritonServer.from_url(url).has_loaded("adder")
        assert TritonServer.from_url(url.replace("127.0.0.1", "localhost")).has_loaded("adder")
        path = own_folder() / ServerUrl.parse(url).address
        path.rename(path.with_name("hidden"))
        try:
            with pytest.raises(ServerError, match=r"answered: .*expecting header .*; .*docs/server-access\.md"):
                TritonServer.from_url(url).load_model("adder", timeout_s=10)
        finally:
            path.with_name("hidden").rename(path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the command of docs/server-access.md is curl's")
def test_key_can_be_given_to_curl_as_a_file(server: TritonServer) -> None:
    """Uses the command of docs/server-access.md."""
    argv = ["curl", "--silent", "--request", "POST", f"{server.http_url}/v2/repository/index"]
    assert "restricted" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    argv += ["--header", f"@{server.key_file}"]
    assert '"name":"adder"' in subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_key_is_new_at_each_start_and_removed_at_its_end(adder_repository: Path, tmp_path: Path) -> None:
    keys = set()
    for _ in range(2):
        with local_server(adder_repository, log_path=tmp_path / "server.log") as running:
            assert running.key_file is not None
            keys.add(key_of(running))
            mine = {path.name for path in own_folder().iterdir()} & {url.address for url in running.urls}
            assert len(mine) == 2
        assert not running.key_file.exists() and find_key(ServerUrl.parse(running.grpc_url)) is None
    assert len(keys) == 2


def test_key_file_of_a_killed_server_is_ignored_and_removed(adder_repository: Path, tmp_path: Path) -> None:
    """The old key is not sent to another program that listens at the address now."""
    ready = tmp_path / "ready"
    argv = [sys.executable, "-m", "deployment_toolkit.triton_server", "--model-repository", str(adder_repository)]
    ports = {name: _free_port() for name in ("http", "grpc", "metrics")}
    argv += [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    argv += ["--log-path", str(tmp_path / "log"), "--ready-file", str(ready), "--verbose"]
    url = ServerUrl.parse(f"http://localhost:{ports['http']}")
    with child(argv, stdout=tmp_path / "printed") as process:
        while not ready.exists():
            assert process.wait(0.05) is None, (tmp_path / "printed").read_text()
        found = find_key(url)
        assert found is not None
        leader = psutil.Process(process.pid)
        servers = leader.children(recursive=True)
        leader.kill()
        process.wait()
        _, running_on = psutil.wait_procs(servers, timeout=30)  # the kernel tells them to end
        assert not running_on
    left = own_folder() / f"127.0.0.1:{ports['http']}"
    assert f"the key in {left}" in (tmp_path / "printed").read_text()
    assert find_key(url) is None  # the file is there until the next server of this user starts, which may be now
    with local_server(adder_repository, log_path=tmp_path / "log", grpc_port=ports["grpc"]) as running:
        assert not left.exists() and key_of(running) != found[1].value
        running.load_model("adder", timeout_s=60)


def as_stranger(argv: list[str]) -> str:
    """Output of a command that a user runs who owns nothing here."""
    assert shutil.which("setpriv") is not None
    user = ["setpriv", f"--reuid={STRANGER_ID}", f"--regid={STRANGER_ID}", "--clear-groups", "--"]
    done = subprocess.run(
        [*user, *argv], capture_output=True, text=True, timeout=120, check=False, cwd="/", env={"PATH": "/usr/bin:/bin"}
    )
    return done.stdout or done.stderr


def key_of(server: TritonServer) -> str:
    found = find_key(ServerUrl.parse(server.http_url))
    assert found is not None
    return found[1].value


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
