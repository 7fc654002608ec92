"""Use of a running server: the test starts a real server as another user of the machine would."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server.attached import attached_server
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer


@contextlib.contextmanager
def _somebody_elses(repository: Path, method: LoadMethod = LoadMethod.EXPLICIT) -> Iterator[TritonServer]:
    with local_server(repository, log_path=repository.parent / "server.log", load_method=method) as server:
        server.load_model("adder", timeout_s=60)
        yield server


@pytest.fixture
def repository(adder_repository: Path, tmp_path: Path) -> Path:
    """A repository that already has a model ``adder``."""
    folder = shutil.copytree(adder_repository / "adder", tmp_path / "models" / "adder")
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("count: 4", "count: 1"))
    return tmp_path / "models"


def _add(repository: Path, name: str) -> None:
    shutil.copytree(repository / "adder", repository.parent / name)
    config = repository.parent / name / "config.pbtxt"
    config.write_text(config.read_text().replace('name: "adder"', f'name: "{name}"'))
    (repository.parent / name).rename(repository / name)


@pytest.mark.parametrize("method", LoadMethod)
def test_attached_server_removes_only_models_of_the_block(repository: Path, method: LoadMethod) -> None:
    with _somebody_elses(repository, method) as running:
        for names in (("first", "second"), ("second",)):  # a name is free again
            with (
                pytest.raises(KeyboardInterrupt),
                attached_server(
                    repository,
                    http_url=running.http_url,
                    grpc_url=running.grpc_url,
                    models=["first", "never", "second"],
                ) as server,
            ):
                for name in names:
                    _add(repository, name)
                    server.load_model(name, timeout_s=60)
                assert (server.http_url, server.grpc_url, server.pid) == (running.http_url, running.grpc_url, None)
                raise KeyboardInterrupt
            assert not any(running.has_loaded(name) for name in ("first", "second"))
            assert [path.name for path in repository.iterdir()] == ["adder"]
            assert running.has_loaded("adder")
            running.wait_ready(30)  # it is not while it unloads


def test_existing_model_is_not_overwritten(repository: Path) -> None:
    before = (repository / "adder" / "config.pbtxt").stat().st_ino
    with _somebody_elses(repository) as running:
        http, grpc = running.http_url, running.grpc_url
        with (
            pytest.raises(ServerError, match="has a model adder already, which is not overwritten: remove it from"),
            attached_server(repository, models=["new", "adder"], http_url=http, grpc_url=grpc),
        ):
            pass
        elsewhere = repository.parent / "other"
        elsewhere.mkdir()
        with (
            pytest.raises(ServerError, match="has a model adder already"),
            attached_server(elsewhere, models=["adder"], http_url=http, grpc_url=grpc),
        ):
            pass
        assert running.has_loaded("adder")
    assert (repository / "adder" / "config.pbtxt").stat().st_ino == before
    assert not (repository / "new").exists()


def test_ended_server_is_reported_and_the_model_folder_removed(
    repository: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.ExitStack() as theirs:
        running = theirs.enter_context(_somebody_elses(repository))
        with (
            caplog.at_level(logging.ERROR),
            attached_server(
                repository, http_url=running.http_url, grpc_url=running.grpc_url, models=["first"]
            ) as server,
        ):
            _add(repository, "first")
            server.load_model("first", timeout_s=60)
            theirs.close()
    assert "model first may still be loaded, its folder is removed: no server answers at" in caplog.text
    assert [path.name for path in repository.iterdir()] == ["adder"]


def test_server_that_is_never_ready_is_reported(repository: Path) -> None:
    http, grpc = "http://127.0.0.1:1", "grpc://127.0.0.1:1"
    with (
        pytest.raises(ServerError, match="no server is ready at http://127.0.0.1:1 after 0.2 s: is it started there"),
        attached_server(repository, models=["first"], timeout_s=0.2, http_url=http, grpc_url=grpc),
    ):
        pass
    with (
        pytest.raises(ServerError, match="no model repository at .*give the folder that the server serves"),
        attached_server(repository / "none", models=["first"], http_url=http, grpc_url=grpc),
    ):
        pass
