from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sys
import tarfile
import urllib.request
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from deployment_toolkit.core import LoadMethod, ModelSpec, TensorSpec
from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import DataError, DeploymentError, ModelError, ServerError
from deployment_toolkit.library.tensorrt.plan import PlanBuild, write_plan
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.process import run
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main
from navigator.containers import plan_check

Write = Callable[..., Path]
Arguments = Callable[..., list[str]]
Outcome = Callable[[], dict[str, Any]]


def served_config(server: TritonServer, name: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{name}/config") as answer:
        return dict(json.load(answer))


def test_triton_config_model_configures_and_loads(
    server: tuple[TritonServer, Path], model: Path, arguments: Arguments, outcome: Outcome
) -> None:
    running, repository = server
    url = ["--server-url", running.grpc_url]
    options = ["--load-model", "--host", "python", "--verbose", "--engine-count-per-device", "cpu=2"]
    batching = ["--batching", "dynamic", "--max-batch-size", "64", "--preferred-batch-sizes", "32", "64"]
    delay = ["--max-queue-delay-us", "100", "--triton-backend-parameters", "threads=1"]
    assert main(arguments(model, repository, *options, *batching, *delay, *url)) == 0
    served = served_config(running, "tiny")
    assert served["dynamic_batching"]["preferred_batch_size"] == [32, 64]
    assert (served["max_batch_size"], served["instance_group"][0]["count"]) == (64, 2)
    assert outcome()["status"]["state"] == "succeeded"
    (repository / "tiny" / "1" / "model.onnx").stat()
    assert not list((repository / "tiny").glob(".*")), "something of the copy was left behind"

    # Again, with another batching: the server runs the new configuration, not the loaded one.
    url = ["--server-url", running.http_url]
    assert main(arguments(model, repository, *options, *url)) == 0
    served = served_config(running, "tiny")
    assert "dynamic_batching" not in served
    assert served["max_batch_size"] == 1


def test_second_version_is_served_next_to_the_first(
    server: tuple[TritonServer, Path], model: Path, arguments: Arguments
) -> None:
    running, repository = server
    common = ["--load-model", "--host", "python", "--server-url", running.http_url]
    for version in ("2", "1"):  # the newer one first: the older is served although a newer is there
        assert main(arguments(model, repository, "--model-version", version, *common, name="versions")) == 0
        running.require_model("versions", version)
    assert sorted(path.name for path in (repository / "versions").iterdir()) == ["1", "2", "config.pbtxt"]


def test_polling_server_is_waited_for(model: Path, tmp_path: Path, arguments: Arguments) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    with local_server(repository, log_path=tmp_path / "server.log", load_method=LoadMethod.POLL) as running:
        options = ["--load-model", "--model-control-mode", "poll", "--host", "python", "--server-url", running.http_url]
        for size in ("8", "16"):
            assert main(arguments(model, repository, *options, "--max-batch-size", size)) == 0
            assert served_config(running, "tiny")["max_batch_size"] == int(size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "native"], "no backend for onnx: deploy with --host python"),
        (["--host", "python", "--engine-count-per-device", "gpu=1"], "no GPU for the engines of model refused: give "),
        (["--engine-count-per-device", "gpu=1"], "no GPU for the engines of model refused: give "),
    ],
)
def test_model_that_the_server_cannot_run_is_a_recorded_error(
    options: list[str],
    message: str,
    server: tuple[TritonServer, Path],
    model: Path,
    arguments: Arguments,
    outcome: Outcome,
) -> None:
    running, repository = server
    url = ["--load-model", "--server-url", running.http_url]
    with pytest.raises(ServerError, match=message):
        main(arguments(model, repository, *options, *url, name="refused"))
    assert outcome()["status"]["state"] == "failed"
    assert message in outcome()["status"]["message"]


def test_wrong_repository_is_an_error(
    server: tuple[TritonServer, Path], model: Path, tmp_path: Path, arguments: Arguments
) -> None:
    url = ["--load-model", "--server-url", server[0].http_url]
    with pytest.raises(ServerError, match="there is no model elsewhere in the repository of the server"):
        main(arguments(model, tmp_path / "other", "--host", "python", *url, name="elsewhere"))


def test_readme_command_makes_a_native_configuration_without_tensorflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exported = tmp_path / "converted_model"
    (exported / "assets.extra").mkdir(parents=True)
    (exported / "saved_model.pb").write_bytes(b"graph")
    (exported / "variables").mkdir()
    (exported / "variables" / "variables.index").write_bytes(b"weights")
    spec = {
        "inputs": [{"name": "ad_id", "dtype": "int32", "shape": [1], "value_range": [0, 9]}],
        "outputs": [{"name": "wide_deep_model", "dtype": "float32", "shape": [1]}],
    }
    (exported / "assets.extra" / "model_spec.yaml").write_text(yaml.safe_dump(spec))
    readme = (
        f"--model-repository {tmp_path}/store --model-name WidenDeep --model-version 1 --model-path {exported} "
        "--model-format tf-savedmodel --model-control-mode explicit --load-model-timeout-s 120 --verbose "
        "--batching dynamic --backend-accelerator amp --tensorrt-precision fp32 --tensorrt-capture-cuda-graph "
        "--max-batch-size 131072 --preferred-batch-sizes 131072 --engine-count-per-device gpu=2"
    )
    program = (
        "import sys; from navigator.__main__ import main; main(sys.argv[1:]); assert 'tensorflow' not in sys.modules"
    )
    command = [sys.executable, "-c", program, "triton-config-model", *readme.split()]
    run(command, log_path=tmp_path / "log")
    config = parse_config((tmp_path / "store" / "WidenDeep" / "config.pbtxt").read_text())
    assert (config.backend, config.max_batch_size, config.instance_group[0].count) == ("tensorflow", 131072, 2)
    assert config.optimization.execution_accelerators.gpu_execution_accelerator[0].name == "auto_mixed_precision"
    stored = tmp_path / "store" / "WidenDeep" / "1" / "model.savedmodel"
    assert (stored / "variables" / "variables.index").read_bytes() == b"weights"


def test_signature_is_taken_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Arguments
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = tmp_path / "model.plan"
    plan.write_bytes(b"engine")
    with pytest.raises(ModelError, match="does not tell its signature: give --inputs and --outputs"):
        main(arguments(plan, tmp_path / "store"))
    signature = ["--inputs", "a=x:-1,3:int32", "b:-1,1:float32", "--outputs", "y:-1,1:float32"]
    assert main(arguments(plan, tmp_path / "store", *signature)) == 0
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    assert {tensor.name: list(tensor.dims) for tensor in config.input} == {"a": [3], "b": [1]}


@pytest.fixture
def image_with_tensorrt(container_engine: bool) -> Iterator[Callable[[str | None], str]]:
    """Makes images, by TensorRT version, that have only the environment variables of NVIDIA's images."""
    with contextlib.closing(docker.from_env()) as client:
        made: list[str] = []

        def make(version: str | None) -> str:
            repository, tag = "localhost/wide-deep-tensorrt", f"{os.getpid()}-{len(made)}"
            changes = ["ENV TRITON_SERVER_VERSION=2.59.0", *([] if version is None else [f"ENV TRT_VERSION={version}"])]
            empty = io.BytesIO()
            tarfile.open(fileobj=empty, mode="w").close()
            answer = client.api.import_image_from_data(empty.getvalue(), changes=changes)
            client.images.get(answer.strip().splitlines()[-1].partition("sha256:")[2][:64]).tag(repository, tag)
            made.append(f"{repository}:{tag}")
            return made[-1]

        yield make
        for name in made:
            client.images.remove(name, force=True)


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan folder in the working directory, like the result of a conversion in NVIDIA's Triton 25.07 on an A30."""
    monkeypatch.chdir(tmp_path)
    ad, score = TensorSpec("ad", "int32", (1,)), TensorSpec("score", "float32", (1,))
    build = PlanBuild("10.11.0.33", "NVIDIA A30", ("fp16",))
    write_plan(tmp_path / "tiny.plan", memoryview(b"plan"), ModelSpec((ad,), (score,)), build)
    return tmp_path / "tiny.plan"


@pytest.mark.parametrize("version", ["10.4.0.26", "10.11.1.33", "10.13.3.9+cuda12.9", "11.1.0.106"])
def test_plan_of_another_tensorrt_version_is_refused(
    version: str,
    image_with_tensorrt: Callable[[str], str],
    plan: Path,
    arguments: Arguments,
    outcome: Outcome,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image = image_with_tensorrt(version)
    # A server that isn't there: nothing is asked of it.
    options = ["--load-model", "--server-url", "grpc://127.0.0.1:1", "--triton-docker-image", image]
    with pytest.raises(SystemExit) as raised:
        run_entry_point(main, arguments(plan, Path("store"), *options))
    assert raised.value.code == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: {plan} was built by TensorRT 10.11.0.33 and can't be loaded by TensorRT {version} of image {image}: "
        f"convert the model again, with --launch-mode docker --triton-docker-image {image}"
    ]
    assert not Path("store").exists()
    assert outcome()["status"]["state"] == "failed"


@pytest.mark.parametrize("version", ["10.11.0.33", "10.11.0.33+cuda12.9", "10.11.0"])
def test_plan_of_the_tensorrt_version_of_the_image_is_deployed(
    version: str, image_with_tensorrt: Callable[[str], str], plan: Path, arguments: Arguments
) -> None:
    assert main(arguments(plan, Path("store"), "--triton-docker-image", image_with_tensorrt(version))) == 0
    assert Path("store/tiny/1/model.plan").read_bytes() == b"plan"


def test_plan_of_another_gpu_is_refused(
    image_with_tensorrt: Callable[[str], str], plan: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_check, "gpu_names", lambda: ["Mock T4", "Mock T4"])
    with pytest.raises(ModelError, match=r"tiny.plan was built on NVIDIA A30 and can't be loaded on Mock T4: convert"):
        main(arguments(plan, Path("store"), "--triton-docker-image", image_with_tensorrt("10.11.0.33")))
    assert not Path("store").exists()


def test_plan_with_an_unknown_server_is_deployed_with_a_warning(
    image_with_tensorrt: Callable[[str | None], str],
    plan: Path,
    arguments: Arguments,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def told(source: Path, *options: str) -> str:
        caplog.clear()
        assert main(arguments(source, Path("store"), *options)) == 0
        return "\n".join(record.message for record in caplog.records if record.levelname == "WARNING")

    silent = image_with_tensorrt(None)
    not_checked = f"whether it can load {plan}, of TensorRT 10.11.0.33, is not checked"
    assert told(plan, "--triton-docker-image", silent) == f"image {silent} sets no TRT_VERSION: {not_checked}"
    absent = "nvcr.io/nvidia/tritonserver:19.01-py3"
    assert told(plan, "--container-version", "19.01") == f"image {absent} is not here: {not_checked}"
    foreign = Path("foreign.plan")
    foreign.write_bytes(b"plan")
    signature = ("--inputs", "ad:-1,1:int32", "--outputs", "score:-1,1:float32")
    assert told(foreign, *signature, "--triton-docker-image", silent) == (
        f"foreign.plan tells no TensorRT version: whether {silent} can load it is not checked"
    )
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert "no container engine answers" in told(plan, "--triton-docker-image", silent)


def test_full_disk_leaves_the_repository_unchanged(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Arguments
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(DataError, match=r"model tiny needs 1\.0 MiB on the disk of .*store/tiny, 1000 bytes are free"):
        main(arguments(model, tmp_path / "store"))
    assert not (tmp_path / "store" / "tiny").exists()


def test_failed_copy_keeps_the_earlier_version(
    model: Path, tmp_path: Path, tiny_onnx: Write, monkeypatch: pytest.MonkeyPatch, arguments: Arguments
) -> None:
    repository = tmp_path / "store"
    main(arguments(model, repository))
    tiny_onnx(model, declared_items=9)
    before = (repository / "tiny" / "1" / "model.onnx").read_bytes()
    monkeypatch.setattr("os.copy_file_range", _disk_full)
    with pytest.raises(DeploymentError, match="No space left on device"):
        main(arguments(model, repository))
    with pytest.raises(DeploymentError, match="No space left on device"):
        main(arguments(model, repository, name="new"))
    assert (repository / "tiny" / "1" / "model.onnx").read_bytes() == before
    assert sorted(path.name for path in repository.rglob("*")) == [
        "1",
        "SHA256SUMS",
        "config.pbtxt",
        "model.onnx",
        "tiny",
    ]


def _disk_full(*args: Any) -> int:
    raise OSError(28, "No space left on device")


def test_repository_has_a_separate_copy_of_the_model(model: Path, tmp_path: Path, arguments: Arguments) -> None:
    main(arguments(model, tmp_path / "store"))
    before = model.read_bytes()
    with model.open("r+b") as file:
        file.write(b"overwritten in place")
    assert (tmp_path / "store" / "tiny" / "1" / "model.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model-path", "nowhere.onnx"], "there is no model at nowhere.onnx"),
        (["--model-path", "."], "the format of . can't be told from its name: give --model-format"),
        (
            ["--model-format", "tf-savedmodel"],
            "is no tf-savedmodel: a model of this format is a folder with a saved_model.pb",
        ),
        (["--model-format", "torchscript"], "use tf-savedmodel or onnx"),
        (["--model-format", "keras"], "invalid choice: 'keras'"),
        (["--engine-count-per-device", "npu=1"], "'npu' is not a valid DeviceKind"),
        (["--engine-count-per-device", "cpu"], "cpu is not key=value"),
        (["--max-batch-size", "many"], "invalid int value: 'many'"),
        (["--max-batch-size", "99999999999"], "max batch size 99999999999: use at most 2147483647"),
        (["--engine-count-per-device", "cpu=9999999999"], "engine count cpu 9999999999: use at most 2147483647"),
        (["--inputs", "ad_id:1:int32", "--outputs", "y:-1,1:float32"], "is not [new=]name:shape:dtype"),
        (["--inputs", "x:-1,1:int32"], "give both --inputs and --outputs"),
        (["--batchin", "static"], "unrecognized arguments: --batchin static"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str], message: str, model: Path, tmp_path: Path, arguments: Arguments
) -> None:
    with pytest.raises(DeploymentError) as failure:
        main(arguments(model, tmp_path / "store", *options))
    assert message in str(failure.value)
    assert not (tmp_path / "store").exists()


def test_command_line_wins_over_defaults_from_a_file(model: Path, tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_text(
        "model_name: tiny\nmodel-path: exported.onnx\nbatching: dynamic\nmax_batch_size: 128\n"
        "preferred_batch_sizes: [16, 32]\nengine_count_per_device: {gpu: 2}\ntensorrt_capture_cuda_graph: true\n"
    )
    options = ["--config-path", "options.yaml", "--model-repository", "store", "--max-batch-size", "32"]
    assert main(["triton-config-model", *options]) == 0
    config = parse_config((tmp_path / "store" / "tiny" / "config.pbtxt").read_text())
    assert list(config.dynamic_batching.preferred_batch_size) == [16, 32]
    assert (config.max_batch_size, config.instance_group[0].count) == (32, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_bach_size: 3", "options.yaml:1: unknown key max_bach_size, did you mean max_batch_size?"),
        ("max_batch_size: many", "options.yaml:1: max_batch_size: invalid int value: 'many'"),
        ("max_batch_size: [1, 2]", "max_batch_size: one value is wanted"),
        ("batching: sometimes", "batching: invalid choice: 'sometimes'"),
        ("load_model: maybe", "load_model: maybe is neither true nor false"),
        ("- a", "must map options to values"),
        ("a: [", "options.yaml:1: not YAML"),
        ("batching: static\nmax_batch_size: 3\nbatching: dynamic", "options.yaml:3: key 'batching' is there twice"),
        ("max-batch-size: 3\nmax_batch_size: 4", "options.yaml:2: max_batch_size is there twice, first in line 1"),
        ("preferred_batch_sizes: [[{a: 1}]]", "options.yaml:1: a value is wanted, not keys and values"),
        ("preferred_batch_sizes: []", "preferred_batch_sizes: the list is empty"),
        (
            "max_workspace_size: 1\ntensorrt_max_workspace_size: 1",
            "options.yaml:2: tensorrt_max_workspace_size and max_workspace_size are names of one option",
        ),
    ],
)
def test_bad_defaults_name_file_and_key(
    text: str, message: str, model: Path, tmp_path: Path, arguments: Arguments
) -> None:
    (tmp_path / "options.yaml").write_text(text)
    with pytest.raises(DeploymentError) as failure:
        main(arguments(model, tmp_path / "store", "--config-path", "options.yaml"))
    assert message in str(failure.value)
