"""Option ``--host``, and the parts of a deployment that are written again."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import BackendError, UsageError
from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main

Arguments = Callable[..., list[str]]
Outcome = Callable[[], dict[str, Any]]
Write = Callable[..., Path]

DEPLOY = """
--model-name WidenDeep --model-version 1 --model-format tf-savedmodel --model-control-mode explicit
--load-model --load-model-timeout-s 120 --verbose --batching dynamic --backend-accelerator amp --tensorrt-precision fp32
--tensorrt-capture-cuda-graph --max-batch-size 64 --preferred-batch-sizes 64 --engine-count-per-device cpu=2
"""


def test_original_command_falls_back_to_the_cpp_host(
    server: tuple[TritonServer, Path],
    tiny_savedmodel: Path,
    tmp_path: Path,
    outcome: Outcome,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    running, repository = server
    where = ["--model-repository", str(repository), "--server-url", running.grpc_url]
    argv = ["triton-config-model", *where, *shlex.split(DEPLOY), "--model-path", str(tiny_savedmodel)]
    main(argv)
    dropped = ["--backend-accelerator amp", "--tensorrt-capture-cuda-graph"]
    first = outcome()
    assert (first["host"], first["dropped"], first["status"]["state"]) == ("cpp", dropped, "succeeded")
    assert "has no backend for tf-savedmodel" in caplog.text
    assert "deploying it again with --host cpp" in caplog.text
    assert running.model_config("WidenDeep")["instance_group"][0]["count"] == 2

    caplog.clear()
    version = repository / "WidenDeep" / "1"
    files = {path: path.stat().st_mtime_ns for path in (version / "model.savedmodel", version.parent / "config.pbtxt")}
    main(argv)  # the server runs it so already: nothing is tried or written
    second = outcome()
    assert (second["host"], second["model"], second["config"]) == ("cpp", "reused", "reused")
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert "has no backend" not in caplog.text


def test_model_whose_process_has_ended_is_loaded_by_the_next_deployment(
    server: tuple[TritonServer, Path],
    model: Path,
    arguments: Arguments,
    outcome: Outcome,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running, repository = server
    argv = arguments(
        model, repository, "--host", "python", "--load-model", "--server-url", running.grpc_url, name="mortal"
    )
    main(argv)
    main(argv)  # the server loads it again, for Python has put a compiled file into its folder
    version = str(repository / "mortal" / "1")
    for process in psutil.Process(running.pid).children():
        if version in " ".join(process.cmdline()):
            process.kill()
    caplog.clear()
    main(argv)
    assert (outcome()["model"], outcome()["config"], outcome()["status"]["state"]) == ("reused", "reused", "succeeded")
    assert "its process has ended, as when memory runs out; deploy the model again; it is loaded anew" in caplog.text


def test_missing_backend_of_a_polling_server_is_noticed_early(
    model: Path, tmp_path: Path, arguments: Arguments, outcome: Outcome
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    with local_server(repository, log_path=tmp_path / "server.log", load_method=LoadMethod.POLL) as running:
        options = ["--load-model", "--model-control-mode", "poll", "--server-url", running.http_url]
        main(arguments(model, repository, *options))
        assert outcome()["host"] == "cpp"
        assert outcome()["status"]["seconds"] < 50  # of the 100 that it may take
        native = [*options, "--host", "native", "--load-model-timeout-s", "1000"]
        with pytest.raises(BackendError, match="has no backend for onnx: deploy with --host python"):
            main(arguments(model, repository, *native, name="native"))


def test_configuration_is_native_without_loading(
    model: Path, tmp_path: Path, arguments: Arguments, outcome: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = ["--backend-accelerator", "trt", "--engine-count-per-device", "cpu=2", "--server-url", "http://a:1"]
    main(arguments(model, tmp_path / "store", *options))
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    assert config.backend == "onnxruntime"
    assert not config.optimization.execution_accelerators.gpu_execution_accelerator  # a GPU's
    assert outcome()["dropped"] == ["--backend-accelerator trt"]
    assert "host native: left out --backend-accelerator trt" in caplog.text
    assert "--server-url: no effect here, they are for --load-model" in caplog.text


def test_own_host_leaves_out_backend_parameters(
    server: tuple[TritonServer, Path],
    model: Path,
    arguments: Arguments,
    outcome: Outcome,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running, repository = server
    options = ["--triton-backend-parameters", "threads=1", "default_max_batch_size=4", "--load-model"]
    argv = arguments(model, repository, *options, "--server-url", running.grpc_url, name="parameters")
    main(argv)
    assert (outcome()["host"], outcome()["dropped"]) == (
        "cpp",
        ["--triton-backend-parameters default_max_batch_size=4"],
    )
    assert running.model_config("parameters")["parameters"]["threads"]["string_value"] == "1"
    caplog.clear()
    main([*argv, "--override-workspace"])  # asks the server again
    assert "has no backend" in caplog.text and outcome()["config"] == "written"


def test_deployment_writes_only_changed_parts_again(
    model: Path, tmp_path: Path, arguments: Arguments, outcome: Outcome, tiny_onnx: Write
) -> None:
    def deploy(*options: str) -> tuple[str, str]:
        main(arguments(model, tmp_path / "store", *options))
        return outcome()["model"], outcome()["config"]

    version = tmp_path / "store" / "tiny" / "1"
    assert deploy() == ("written", "written")
    inode = (version / "model.onnx").stat().st_ino
    assert deploy() == ("reused", "reused")
    assert deploy("--max-batch-size", "8") == ("reused", "written")
    assert deploy("--host", "python") == ("reused", "written")
    assert sorted(path.name for path in version.iterdir()) == ["SHA256SUMS", "model.onnx", "model.py"]
    assert deploy("--host", "native") == ("reused", "written")
    assert sorted(path.name for path in version.iterdir()) == ["SHA256SUMS", "model.onnx"]
    assert (version / "model.onnx").stat().st_ino == inode
    tiny_onnx(model, declared_items=9)
    assert deploy() == ("written", "written")  # its value ranges stand in the configuration
    (version / "model.onnx").write_bytes(model.read_bytes()[:-1])
    assert deploy() == ("written", "reused")
    (version / "stray").touch()
    assert deploy() == ("written", "reused")
    assert sorted(path.name for path in version.iterdir()) == ["SHA256SUMS", "model.onnx"]


def test_options_without_effect_are_logged(
    model: Path, tmp_path: Path, arguments: Arguments, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options = [
        "--container-version",
        "24.08",
        "--gpus",
        "0",
        "--preferred-batch-sizes",
        "4",
        "--max-queue-delay-us",
        "9",
    ]
    options += ["--tensorrt-precision", "fp16", "--max-workspace-size", "9", "--tensorrt-capture-cuda-graph"]
    main(arguments(model, tmp_path / "store", *options, "--batching", "disabled", "--max-batch-size", "4"))
    told = [message for message in caplog.messages if "no effect here" in message]
    assert told == [
        "--gpus: no effect here, no container is started",
        "--tensorrt-capture-cuda-graph: no effect here, CUDA graphs are captured of TensorRT plans only, not of onnx",
        "--preferred-batch-sizes, --max-queue-delay-us: no effect here, they are for --batching dynamic",
        "--tensorrt-precision, --tensorrt-max-workspace-size: no effect here, they are for --backend-accelerator trt",
        "--max-batch-size: no effect here, the server does no batching",
        "--container-version: no effect here, a server's image is asked for a TensorRT plan, not for onnx",
    ]


def test_tensorrt_accelerator_gets_its_options(model: Path, tmp_path: Path, arguments: Arguments) -> None:
    options = ["--backend-accelerator", "trt", "--tensorrt-precision", "fp16", "--tensorrt-max-workspace-size", "1000"]
    main(arguments(model, tmp_path / "store", *options, "--engine-count-per-device", "gpu=1"))
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert dict(accelerator.parameters) == {"precision_mode": "FP16", "max_workspace_size_bytes": "1000"}


def test_cpp_host_uses_the_precision_of_the_model(
    server: tuple[TritonServer, Path], model: Path, arguments: Arguments, outcome: Outcome, tmp_path: Path
) -> None:
    running, repository = server
    where = ["--host", "cpp", "--load-model", "--server-url", running.http_url]
    for name, served, told in (("cpp_onnx", "onnx", []), ("cpp_converted", "openvino", ["engine=openvino"])):
        argv = arguments(model, repository, *where, "--triton-backend-parameters", "threads=1", *told, name=name)
        for state, host in (("written", "cpp"), ("reused", "cpp"), ("reused", "auto")):
            main([*argv, "--host", host])
            assert (outcome()["host"], outcome()["format"], outcome()["model"]) == ("cpp", served, state)
        parameters = running.model_config(name)["parameters"]
        expected = {"threads": "1", "inference_precision": "f32", "model_format": served}
        assert {key: parameters[key]["string_value"] for key in expected} == expected
    converted = tmp_path / "tiny.openvino"
    converted.mkdir()
    OpenVinoFromOnnx().convert(model, converted)
    text = (converted / "model.xml").read_text()
    (converted / "model.xml").write_text(text.replace("<framework>", '<framework><precision value="int8"/>', 1))
    main(arguments(converted, repository, *where, "--model-format", "openvino", name="cpp_int8"))
    cpp_int8 = running.model_config("cpp_int8")
    assert (cpp_int8["backend"], cpp_int8["parameters"]["inference_precision"]["string_value"]) == ("cpp_host", "bf16")
    main(
        arguments(
            converted, repository, *where, "--triton-backend-parameters", "inference_precision=f32", name="cpp_int8"
        )
    )
    assert running.model_config("cpp_int8")["parameters"]["inference_precision"]["string_value"] == "f32"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--engine-count-per-device", "gpu=1"], "the C++ host runs on a cpu only"),
        (["--backend-accelerator", "trt"], "accelerator trt belongs to a native backend: with the C++ host use none"),
        (["--triton-backend-parameters", "nodes=2"], "the C++ host has no parameter nodes, only threads, streams, und"),
        (["--triton-backend-parameters", "streams=no"], "streams=no: use 1 or more"),
        (["--triton-backend-parameters", "threads=0"], "threads=0: use 1 or more"),
        (["--triton-backend-parameters", "undivided_rows=few"], "undivided_rows=few: use 0 or more"),
        (["--triton-backend-parameters", "non_finite=ok"], "non_finite=ok: use refused or accepted"),
        (
            ["--triton-backend-parameters", "inference_precision=bf16"],
            "inference_precision=bf16: for onnx use f32 or f16 or int8",
        ),
        (
            ["--triton-backend-parameters", "engine=tensorflow"],
            "the only other engine of a format is openvino for onnx",
        ),
    ],
)
def test_cpp_host_refuses_impossible_options(
    options: list[str], problem: str, model: Path, tmp_path: Path, arguments: Arguments
) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        main(arguments(model, tmp_path / "store", "--host", "cpp", *options))
