"""The probe of a model's health, against the real server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shutil import copytree

import numpy as np
import psutil
import pytest

from deployment_toolkit.core import Batching, Format, Host, ModelSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model, add_package
from deployment_toolkit.deploying.python_package import PythonPackage
from deployment_toolkit.errors import DataError, ProcessError, ServerError, UsageError
from deployment_toolkit.library.registry import loader, packer
from deployment_toolkit.packing import packed_spec
from deployment_toolkit.process import run
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.health.__main__ import main
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.conftest import TinyOnnx
from tests.deployment_toolkit.python_backend.echo_spec import NUMBERS, SPEC

HEAVY = {"tensorflow", "keras", "pandas", "onnxruntime", "openvino", "matplotlib"}


@pytest.fixture(scope="module")
def server(
    adder_repository: Path, tiny_onnx: TinyOnnx, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TritonServer]:
    """Server with ``adder``, ``bounded`` and ``packed``, of whose ids 0 is none, and ``echo``, which takes strings."""
    folder = tmp_path_factory.mktemp("health")
    repository = folder / "repository"
    copytree(adder_repository, repository)
    source = tiny_onnx(folder / "tiny.onnx")
    spec = loader(Format.ONNX)().read_spec(source).with_value_ranges({"item": (4, 9), "tags": (-1, -1)})
    packer(Format.ONNX)().convert(source, folder / "packed.onnx")
    models: dict[str, tuple[ModelSpec, Path]] = {
        "bounded": (spec, source),
        "packed": (packed_spec(spec), folder / "packed.onnx"),
    }
    for name, (own, path) in models.items():
        add_model(repository, Deployment(name, own, Format.ONNX, host=Host.CPP, batching=Batching.DYNAMIC), path)
    served = "tests.deployment_toolkit.python_backend.served_echo"
    add_package(repository, PythonPackage("echo", served, SPEC, {}, 64).package)
    with local_server(repository, log_path=folder / "server.log") as running:
        for name in ("adder", "echo", *models):
            running.load_model(name, timeout_s=60)
        yield running


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_models_that_answer_a_row_in_their_ranges_are_healthy(
    server: TritonServer, protocol: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.http_url if protocol == "http" else server.grpc_url
    main(["--server-url", url, "--model-name", "adder", "bounded", "packed", "--timeout-s", "60"])
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" answers, after ")[0] for line in printed] == ["model adder", "model bounded", "model packed"]


def test_model_that_takes_strings_is_told_and_answers_a_given_row(server: TritonServer, tmp_path: Path) -> None:
    command = ["--server-url", server.http_url, "--model-name", "echo", "--timeout-s", "60"]
    with pytest.raises(ServerError, match=r"model echo is not healthy: .* takes strings \(text\).*: give one"):
        main(command)
    row = tmp_path / "row.json"
    row.write_text(json.dumps({**dict.fromkeys(NUMBERS, 1), "text": ["ad", "señal"]}))
    main([*command, "--row", str(row), "--model-version", "1"])
    row.write_text(json.dumps({**dict.fromkeys(NUMBERS, "many"), "text": "ad"}))
    with pytest.raises(DataError, match=r"the row's \w+ is no \w+ \[-1, -1\]: .*many"):
        main([*command, "--row", str(row)])
    row.write_text(json.dumps({"text": "ad"}))
    with pytest.raises(DataError, match="the row does not have the model's inputs: missing .*float32"):
        main([*command, "--row", str(row)])
    for text in ("[1]", "{", "[" * 100_000):
        row.write_text(text)
        with pytest.raises(DataError, match=r"row\.json"):
            main([*command, "--row", str(row)])


def test_model_that_is_busy_too_long_is_not_healthy(server: TritonServer) -> None:
    row = {"x1": np.full((1, 1), 1003, np.float32), "x2": np.zeros((1, 3), np.int32)}  # an answer after 3 s
    with closing(GrpcTransport(ServerUrl.parse(server.grpc_url), "adder", "", 8)) as transport:
        pending = [transport.send(row) for _ in range(8)]
        with pytest.raises(ServerError, match="model adder is not healthy: .* did not answer within"):
            main(["--server-url", server.http_url, "--model-name", "adder", "--timeout-s", "1"])
        for answer in pending:
            answer.result(60)


def test_probe_in_a_process_of_its_own_tells_a_dead_model_on_one_line(server: TritonServer, tmp_path: Path) -> None:
    program = f"""import sys
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.triton_server.health.__main__ import main
heavy = {HEAVY} & sys.modules.keys()
assert not heavy, heavy
run_entry_point(main)"""
    command = [sys.executable, "-c", program, "--server-url", server.http_url, "--model-name", "bounded", "adder"]
    assert "model adder answers" in run(command, log_path=tmp_path / "healthy").stdout
    for process in psutil.Process(server.pid).children(recursive=True):
        if "adder" in " ".join(process.cmdline()):
            process.kill()
    with pytest.raises(ProcessError) as raised:
        run(command, log_path=tmp_path / "dead")
    assert raised.value.returncode == 1
    (line,) = raised.value.stderr.splitlines()
    assert line.startswith("error: model adder is not healthy: the server at http://") and "is not healthy" in line
    assert "model bounded answers" in raised.value.stdout


def test_server_or_model_that_is_not_there_is_told(server: TritonServer) -> None:
    with pytest.raises(ServerError, match="model nothing is not healthy: .*unknown model"):
        main(["--server-url", server.http_url, "--model-name", "nothing"])
    with pytest.raises(ServerError, match="model adder is not healthy: no server answers at grpc://127.0.0.1:1"):
        main(["--server-url", "grpc://127.0.0.1:1", "--model-name", "adder", "--timeout-s", "3"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--timeout-s", "0"], "--timeout-s must be above 0, not 0"),
        (["--timeout-s", "nan"], "--timeout-s must be above 0, not nan"),
        (["--model-version", "1"], "--model-version is for one model"),
        (["--row", "row.json"], "--row is for one model"),
    ],
)
def test_wrong_options_are_refused(options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["--model-name", "adder", "bounded", *options])
