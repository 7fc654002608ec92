from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError
from deployment_toolkit.process import child
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.triton_server import local
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.plain_paths import plain_folder
from deployment_toolkit.triton_server.remote import TritonServer
from tests.asking import ask
from tests.shared_memory import orphaned, processes_with, regions

HOLDER = """
import signal, sys
from pathlib import Path
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.triton_server.local import local_server

def main(argv):
    with local_server(Path(argv[0]), log_path=Path(argv[1])) as server:
        server.load_model("adder", timeout_s=60)
        print(server.pid, flush=True)
        signal.pause()

run_entry_point(main)
"""


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check after each test: no process, temporary folder or shared memory file of its servers."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    before = regions()
    yield
    _wait_until(lambda: not processes_with(str(temporary)) and not orphaned(regions() - before))
    assert not list(temporary.iterdir())


def test_models_load_answer_and_unload(adder_repository: Path, tmp_path: Path) -> None:
    with local_server(adder_repository, log_path=tmp_path / "server.log") as server:
        assert server.pid is not None
        server.load_model("adder", timeout_s=60)
        assert len(psutil.Process(server.pid).children(recursive=True)) == 4  # a process per instance
        over_grpc, over_http = (TritonServer.from_url(url) for url in (server.grpc_url, server.http_url))
        assert over_grpc.model_config("adder", "1") == over_http.model_config("adder", "1")
        assert over_grpc.model_config("adder")["max_batch_size"] == 64
        assert over_grpc.model_spec("adder") == over_http.model_spec("adder")
        assert over_grpc.model_spec("adder").value_ranges == {"x2": (-1, 999)}
        server.unload_model("adder")
        _wait_until(lambda: not psutil.Process(server.pid).children())
        with pytest.raises(ServerError, match="adder .* is not loaded .unloaded.: load it"):
            server.require_model("adder")
    assert "successfully loaded 'adder'" in (tmp_path / "server.log").read_text()


def test_server_sees_the_given_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "repository").mkdir()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    for devices, visible in (((2, 0), "2,0"), ((), "7")):
        with local_server(tmp_path / "repository", log_path=tmp_path / "server.log", devices=devices) as server:
            inherited = psutil.Process(server.pid).environ()
            assert inherited["CUDA_VISIBLE_DEVICES"] == visible
            assert inherited.get("CUDA_DEVICE_ORDER") == ("PCI_BUS_ID" if devices else None)


def test_servers_run_in_parallel_and_end_after_an_exception(adder_repository: Path, tmp_path: Path) -> None:
    def fail() -> None:
        with (
            local_server(adder_repository, log_path=tmp_path / "1.log") as first,
            local_server(adder_repository, log_path=tmp_path / "2.log") as second,
        ):
            assert len({first.http_url, first.grpc_url, second.http_url, second.grpc_url}) == 4
            first.load_model("adder", timeout_s=60)
            with pytest.raises(ServerError, match="not loaded"):
                second.require_model("adder")
            second.load_model("adder", timeout_s=60)
            raise RuntimeError("in the block")

    with pytest.raises(RuntimeError, match="in the block"):
        fail()


@pytest.mark.parametrize("folder", ["o'clock [a] $(touch made)", "données"])
def test_python_model_runs_whatever_its_folder_is_called(
    adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    temporary = tmp_path / "temporary" / folder
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    repository = tmp_path / folder
    shutil.copytree(adder_repository / "adder", repository / "adder")
    with local_server(repository, log_path=tmp_path / "server.log") as server:
        server.load_model("adder", timeout_s=60)
        (answer,) = ask(server, "adder", [{"x1": np.ones((1, 1), np.float32), "x2": np.array([[1, 2, 3]], np.int32)}])
        assert isinstance(answer, dict)
        assert not Path("made").exists()
    temporary.rmdir()  # empty


def test_killed_server_is_reported(adder_repository: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with local_server(adder_repository, log_path=tmp_path / "server.log") as server:
        server.load_model("adder", timeout_s=60)
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        _wait_until(lambda: not server.is_ready())
        for url in (server.grpc_url, server.http_url):
            with pytest.raises(ServerError, match="no server answers at"):
                TritonServer.from_url(url).load_model("adder", timeout_s=60)
            with pytest.raises(ServerError, match=r"no server is ready at .* after 0\.3 s"):
                TritonServer.from_url(url).wait_ready(timeout_s=0.3)
        assert server.poll() == -signal.SIGKILL
    (told,) = [record.message for record in caplog.records if "ended by itself" in record.message]
    assert re.search(
        r"it was killed by SIGKILL, usually by the kernel.s OOM killer when memory runs out: .*adder.*; its log is",
        told,
    )


def test_interrupted_program_ends_its_server(adder_repository: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "holder.py", tmp_path / "holder.out"
    script.write_text(HOLDER)
    argv: list[str | Path] = [sys.executable, script, adder_repository, tmp_path / "server.log"]
    with child(argv, stdout=out, stderr=tmp_path / "holder.err") as holder:
        _wait_until(lambda: out.read_text().endswith("\n"))
        server_pid = int(out.read_text())
        os.kill(holder.pid, signal.SIGINT)
        assert holder.wait(30) == 130
        assert not psutil.pid_exists(server_pid)
        assert not list((tmp_path / "temporary").iterdir())


def test_no_process_outlives_a_killed_program_and_its_killed_server(adder_repository: Path, tmp_path: Path) -> None:
    script, out = tmp_path / "holder.py", tmp_path / "holder.out"
    script.write_text(HOLDER)
    argv: list[str | Path] = [sys.executable, script, adder_repository, tmp_path / "server.log"]
    with child(argv, stdout=out, stderr=tmp_path / "holder.err") as holder:
        _wait_until(lambda: out.read_text().endswith("\n"))
        server = psutil.Process(int(out.read_text()))
        processes = [server, *server.children(recursive=True)]
        holder.stop(first=signal.SIGKILL)
        server.kill()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert not alive
    assert list((tmp_path / "temporary").iterdir())
    with plain_folder():  # the next start removes it
        pass


def test_given_port_in_use_is_reported(adder_repository: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ServerError, match=f"port {port} of 127.0.0.1, for grpc, .*in use"),
            local_server(adder_repository, log_path=tmp_path / "server.log", grpc_port=port),
        ):
            pass
    assert not (tmp_path / "server.log").exists()


def test_chosen_port_that_is_taken_is_replaced(
    adder_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        choose, calls = choose_free, []

        def choose_taken_first(wanted: dict[str, int | None]) -> dict[str, int]:
            calls.append(wanted)
            return choose(wanted) | ({"http": taken} if len(calls) == 1 else {})

        monkeypatch.setattr(local, "choose_free", choose_taken_first)
        with local_server(adder_repository, log_path=tmp_path / "server.log") as server:
            assert not server.http_url.endswith(f":{taken}")
            server.wait_ready(timeout_s=5)
        assert len(calls) == 2


def test_server_that_ends_at_its_start_is_reported(tmp_path: Path) -> None:
    model = tmp_path / "repository" / "broken"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text('backend: "python" max_batch_size: -5')
    log_path = tmp_path / "server.log"
    with (
        pytest.raises(
            ServerError, match="tritonserver exited with 1 while it started: .*broken.*; its log is"
        ) as caught,
        local_server(model.parent, log_path=log_path, load_method=LoadMethod.POLL),
    ):
        pass
    assert str(log_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_server_that_is_not_ready_in_time_is_reported(adder_repository: Path, tmp_path: Path) -> None:
    version = tmp_path / "repository" / "slow" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(
        (adder_repository / "adder" / "config.pbtxt").read_text().replace("adder", "slow")
    )
    (version / "model.py").write_text("import time\nprint('model is slow', flush=True)\ntime.sleep(600)\n")
    with (
        pytest.raises(ServerError, match=r"not ready after 2 s: .*; its log is"),
        local_server(version.parent.parent, log_path=tmp_path / "server.log", load_method=LoadMethod.POLL, timeout_s=2),
    ):
        pass


def test_models_that_do_not_load_are_reported(tmp_path: Path) -> None:
    version = tmp_path / "repository" / "broken" / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text("raise ValueError('first line\\nsecond line')\n")
    (version.parent / "config.pbtxt").write_text('backend: "python"')
    with local_server(version.parent.parent, log_path=tmp_path / "server.log") as server:
        for url in (server.grpc_url, server.http_url):
            with pytest.raises(ServerError, match="there is no model WidenDeep .* it holds broken"):
                TritonServer.from_url(url).load_model("WidenDeep", timeout_s=60)
            with pytest.raises(ServerError, match="model broken could not be loaded: .*first line second line"):
                TritonServer.from_url(url).load_model("broken", timeout_s=60)
        with pytest.raises(ServerError, match=r"; the server's log is .*server\.log"):
            server.load_model("broken", timeout_s=60)


def test_polling_server_finds_a_new_model(adder_repository: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    with local_server(repository, log_path=tmp_path / "server.log", load_method=LoadMethod.POLL) as server:
        (repository / "adder").symlink_to(adder_repository / "adder")
        server.load_model("adder", timeout_s=60)
        server.require_model("adder", "1")


def test_missing_repository_is_reported(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerError, match="no model repository at .*/nowhere"),
        local_server(tmp_path / "nowhere", log_path=tmp_path / "server.log"),
    ):
        pass


def _wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
