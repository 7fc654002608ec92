"""User of the embedded server and of perf_analyzer when root starts them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch
from deployment_toolkit.process import child
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.server_access.private_options import build_library
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.remote import TritonServer
from deployment_toolkit.users import NOBODY, unprivileged

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root starts processes of another user")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may read."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def open_python(folder: Path) -> str:
    """An interpreter with this one's packages that everybody may run; this one may be in a closed folder."""
    packages = Path(sysconfig.get_path("purelib"))
    if NOBODY.obstacle([Path(sys.executable), Path(os.__file__)]) is None:
        return sys.executable
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    system = Path("/usr/bin") / version
    library = Path("/usr/lib") / str(sysconfig.get_config_var("MULTIARCH")) / f"lib{version}.so.1.0"
    if not (system.exists() and library.exists()) or NOBODY.obstacle([packages / "numpy" / "__init__.py"]):
        pytest.skip("every interpreter with these packages is closed to other users")
    (folder / "bin").mkdir()
    (folder / "lib" / version).mkdir(parents=True)
    (folder / "bin" / "python3").symlink_to(system)
    (folder / "lib" / version / "site-packages").symlink_to(packages)
    (folder / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return str(folder / "bin" / "python3")


@as_root
def test_server_and_perf_analyzer_of_root_run_as_nobody(
    adder_repository: Path, open_folder: Path, tmp_path: Path
) -> None:
    build_library()  # the other interpreter may have no compiler
    repository, ready, result_path = open_folder / "models", tmp_path / "ready", tmp_path / "closed" / "latency.csv"
    shutil.copytree(adder_repository, repository)
    repository.chmod(0o755)
    cache = repository / "adder" / "1" / "__pycache__"  # of an earlier server that ran as root
    cache.mkdir(exist_ok=True)
    cache.chmod(0o700)
    ports = choose_free(dict.fromkeys(("http", "grpc", "metrics")))
    planted = open_folder / "planted"  # the current folder, in which another user may have left something
    planted.mkdir()
    (planted / "numpy.py").write_text("raise AssertionError('a model imported it')")
    argv = ["env", f"--chdir={planted}", open_python(open_folder), "-P", "-m", "deployment_toolkit.triton_server"]
    argv += ["--model-repository", str(repository)]
    argv += [part for name, port in ports.items() for part in (f"--{name}-port", str(port))]
    argv += ["--log-path", str(tmp_path / "log"), "--ready-file", str(ready), "--verbose"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CXX": "/no/c++", "TMPDIR": "/tmp"}
    url = f"grpc://127.0.0.1:{ports['grpc']}"
    with child(argv, env=env, stdout=tmp_path / "printed") as process:
        while not ready.exists():
            assert process.wait(0.05) is None, (tmp_path / "printed").read_text()
        for log in ("printed", "log"):
            assert "tritonserver: it runs as nobody (65534:65534)" in (tmp_path / log).read_text()
        TritonServer.from_url(url).load_model("adder", timeout_s=60)
        servers = psutil.Process(process.pid).children(recursive=True)
        assert {user for server in servers for user in server.uids()} == {NOBODY.uid} and len(servers) == 5
        assert {server.cwd() for server in servers} == {str(ROOT)}
        assert all("CapEff:\t0000000000000000" in _status(server.pid) for server in servers)
        regions = {Path(item.path) for server in servers for item in server.memory_maps() if "/dev/shm" in item.path}
        assert len(regions) == 4 and {path.stat().st_uid for path in regions} == {NOBODY.uid}
        home = Path(servers[-1].environ()["HOME"])
        assert home.stat().st_uid == NOBODY.uid and home.stat().st_mode & 0o777 == 0o700
        x = {"x1": np.ones((2, 1), np.float32), "x2": np.zeros((2, 3), np.int32)}
        options = {"synchronous": True, "max_unresponded_requests": 1, "response_wait_time_s": 60.0}
        with open_session(url, "adder", **options) as session:  # type: ignore[arg-type]
            (answer,) = session.predict([Batch(np.arange(2), x)])
        assert answer.y_pred["y"].tolist() == [[1.0], [1.0]]
        assert _measure(url, result_path, tmp_path) == {NOBODY.uid}
    assert [row["Batch"] for row in read_performance(result_path)] == [1, 16]
    assert result_path.stat().st_uid == 0 and not home.exists()
    assert not any(path.exists() for path in regions)


def _measure(url: str, result_path: Path, folder: Path) -> set[int]:
    """Measures offline; returns the users of perf_analyzer, which has no rights of root's."""
    argv = [sys.executable, str(ROOT / "run_performance_on_triton.py"), "--model-name", "adder", "--server-url", url]
    argv += ["--evaluation-mode", "offline", "--batch-sizes", "1", "16", "--retries", "0", "--input-data", "zero"]
    argv += ["--measurement-request-count", "17", "--result-path", str(result_path)]
    seen = set()
    with child(argv, stdout=folder / "measured", env={**os.environ, "TMPDIR": "/tmp"}) as process:
        while process.wait(0.005) is None:
            for member in psutil.Process(process.pid).children():
                try:
                    if member.name() == "perf_analyzer":
                        seen.add(member.uids().effective)
                        assert "CapEff:\t0000000000000000" in _status(member.pid)
                except (psutil.NoSuchProcess, OSError):  # it has just ended
                    continue
        assert process.poll() == 0, (folder / "measured").read_text()
    return seen


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()


@as_root
def test_reason_to_run_as_root_is_said(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = open_folder / "closed" / "model"
    closed.mkdir(parents=True)
    assert unprivileged([open_folder]) == (NOBODY, "it runs as nobody (65534:65534)")
    (closed / "model.onnx").touch(mode=0o600)
    user, reason = unprivileged([open_folder])
    assert user is None and f"not as nobody, because {closed / 'model.onnx'} is closed to others" in reason
    closed.parent.chmod(0o700)
    assert f"because {closed.parent} is closed" in unprivileged([open_folder])[1]
    assert f"because {closed} is closed" in unprivileged([closed])[1]
    closed.parent.chmod(0o755)
    (closed / "model.onnx").chmod(0o644)
    mask = os.umask(0o027)
    try:
        assert "files that root makes are closed to others (umask 0027, 0022 opens them)" in unprivileged([closed])[1]
    finally:
        os.umask(mask)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/no/setpriv")
    assert unprivileged([open_folder])[0] is None and not NOBODY.can_start()


def test_other_callers_keep_their_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert unprivileged([Path("/root")])[0] is None
