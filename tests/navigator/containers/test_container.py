from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.containers.spec import LABEL
from deployment_toolkit.core import Format
from deployment_toolkit.errors import DeviceError, UsageError
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.process import child
from navigator.__main__ import main
from navigator.containers import container, converter_image
from navigator.containers.container import ContainerJob, base_image, find_gpus, inner_arguments, read_folders
from navigator.containers.converter_image import ConverterImage
from navigator.options import ContainerOptions

TinyOnnx = Callable[..., Path]
CRIPPLED = "FROM {}\nENV PYTHONHOME=/nowhere\n"
MENDED = "ARG FROM_IMAGE_NAME\nFROM ${FROM_IMAGE_NAME}\nENV PYTHONHOME=/opt/python\n"


@pytest.fixture
def crippled_image(container_image: str, tmp_path: Path) -> Iterator[str]:
    """An image with a broken Python. Images built on it are removed with it."""
    dockerfile = tmp_path / "crippled" / "Dockerfile"
    dockerfile.parent.mkdir()
    dockerfile.write_text(CRIPPLED.format(container_image))
    name = "localhost/wide-deep-crippled:1"
    with ContainerEngine.connect() as engine:
        engine.build_image(dockerfile, name)
    yield name
    _remove_images("wide-deep-converter:localhost-wide-deep-crippled-1", "wide-deep-crippled:")


@pytest.fixture(autouse=True)
def no_container_left() -> Iterator[None]:
    yield
    with contextlib.suppress(docker.errors.DockerException), contextlib.closing(docker.from_env()) as client:
        # Those of servers are other tests'.
        left = client.containers.list(all=True, filters={"label": LABEL})
        assert not [item for item in left if item.attrs["Config"]["Cmd"][0] == "python3"]


def test_convert_in_a_container_gives_the_same_file_and_results(
    container_image: str, model: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert _convert("here", model) == 0
    capfd.readouterr()
    assert _convert("there", model, "--launch-mode", "docker", "--framework-docker-image", container_image) == 0

    told = capfd.readouterr().err
    assert f"in a container of {container_image}: python3 -m navigator convert -n tiny" in caplog.text
    assert "wrote onnx to there/out.onnx" in told and "no effect" not in told
    assert Path("there/out.onnx").read_bytes() == Path("here/out.onnx").read_bytes()
    assert Path("there/out.onnx").stat().st_uid == os.getuid()
    here, there = map(_results, ("here", "there"))
    images = [result.pop("framework_docker_image") for result in (*here, *there)]
    assert (here, images) == (there, [None, container_image])
    assert _log("here") == _log("there") != ""


def test_exit_code_and_error_of_the_container_are_passed_on(
    container_image: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ("--launch-mode", "docker", "--framework-docker-image", container_image, "--atol", "nosuch=1")
    assert _convert("there", model, *options) == 1
    assert re.findall("^error: .*", capfd.readouterr().err, re.MULTILINE) == [
        "error: --atol nosuch=1: the model has no output nosuch, only score"
    ]


def test_container_can_write_only_its_output_folder(container_image: str, model: Path, tmp_path: Path) -> None:
    job = ContainerJob(["-n", "tiny"], Format.ONNX, [Format.ONNX], [tmp_path / "made"], [model])
    (tmp_path / "made").mkdir()
    spec = job.spec(container_image, [])
    places = f"{ROOT} {tmp_path} {tmp_path}/made"
    script = f"for place in {places}; do : > $place/new; done; : < /dev/tcp/127.0.0.1/1"
    printed: list[bytes] = []
    probe = type(spec)(**{**vars(spec), "command": ("bash", "-c", script)})
    with ContainerEngine.connect() as engine, engine.container(probe, printed.append) as running:
        running.wait()
    said = b"".join(printed).decode()
    assert said.count("Read-only file system") == 2
    assert (tmp_path / "made" / "new").exists()


def test_converter_image_is_rebuilt_when_its_inputs_change(
    crippled_image: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    dockerfile = tmp_path / "mended" / "Dockerfile"
    _mend_with(dockerfile, "DOCKERFILE", monkeypatch)
    caplog.set_level(logging.INFO)

    def builds(*, anew: bool = False) -> int:
        caplog.clear()
        with ContainerEngine.connect() as engine:
            ConverterImage(crippled_image, [Format.ONNX]).find(engine, anew=anew)
        return caplog.text.count("building image wide-deep-converter:localhost-wide-deep-crippled-1-")

    options = ("--launch-mode", "docker", "--framework-docker-image", crippled_image)
    assert _convert("there", model, *options, "--override-conversion-container") == 0
    assert "in a container of wide-deep-converter:localhost-wide-deep-crippled-1-" in caplog.text
    assert [builds(), builds(anew=True)] == [0, 1]
    (dockerfile.parent / "requirements.txt").write_text("another")
    assert builds() == 1
    with contextlib.closing(docker.from_env()) as client, ContainerEngine.connect() as engine:
        old = client.images.get(crippled_image)
        old.tag("localhost/wide-deep-crippled", "old")
        crippled = tmp_path / "crippled" / "Dockerfile"
        crippled.write_text(f"{CRIPPLED.format(crippled_image)}ENV ANOTHER=1\n")
        engine.build_image(crippled, crippled_image)
    assert [builds(), builds()] == [1, 0]


def test_converter_image_that_still_cannot_convert_is_reported(
    crippled_image: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _mend_with(tmp_path / "mended" / "Dockerfile", "DOCKERFILE", monkeypatch)
    monkeypatch.setattr(container, "require_gpu", lambda what: ["Mock A30"])
    options = ("--target-formats", "trt", "--launch-mode", "docker", "--triton-docker-image", crippled_image)
    assert _convert("there", model, *options) == 1
    assert re.search(
        rf"error: image {crippled_image} can't convert, nor can wide-deep-converter:localhost-wide-deep-crippled-1-\w+ "
        r"with the requirements installed on it \(without tensorrt\); give NVIDIA's Triton image, 24.05 or later",
        capfd.readouterr().err,
    )


def test_tf_trt_uses_the_tensorflow_of_the_image(
    crippled_image: str,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    _mend_with(tmp_path / "mended" / "tf_trt.Dockerfile", "TF_TRT_DOCKERFILE", monkeypatch)
    monkeypatch.setattr(container, "require_gpu", lambda what: ["Mock A30"])
    folder = tmp_path / "tiny.savedmodel"
    folder.mkdir()
    (folder / "saved_model.pb").touch()
    options = ("--target-formats", "tf-trt", "--launch-mode", "docker", "--framework-docker-image", crippled_image)
    assert _convert("there", folder, *options) == 1
    told = capfd.readouterr().err
    assert "its TensorFlow is built without TensorRT); give NVIDIA's TensorFlow image, 24.11 to 25.02" in told


def test_missing_gpu_is_reported_before_an_image_is_built(
    model: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    options = ("--target-formats", "trt", "--launch-mode", "docker", "--triton-docker-image", "127.0.0.1:1/none:1")
    assert _convert("there", model, *options) == 1
    assert "error: a conversion to trt needs an NVIDIA GPU" in capfd.readouterr().err
    assert not Path("there").exists()


def test_image_without_apt_get_is_reported(crippled_image: str, model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _convert("there", model, "--launch-mode", "docker", "--framework-docker-image", crippled_image) == 1
    told = capfd.readouterr().err
    assert re.search(
        rf"error: image {crippled_image} can't convert \(ModuleNotFoundError: No module named 'encodings'.*\) and the "
        "requirements can't be installed on it: .*apt-get: command not found.*; give with --framework-docker-image",
        told,
    )


def test_interrupt_removes_the_container(container_image: str, model: Path, tmp_path: Path) -> None:
    argv = _arguments("there", model, "--launch-mode", "docker", "--framework-docker-image", container_image)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with child([sys.executable, "-m", "navigator", *argv], env=env, stdout=tmp_path / "log") as process:
        with contextlib.closing(docker.from_env()) as client:
            while not client.containers.list(filters={"label": LABEL, "ancestor": container_image}):
                assert process.poll() is None, process.output()
                time.sleep(0.02)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(60) == 130
    assert "interrupted" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("options", "targets", "image"),
    [
        ({"container_version": "24.03"}, ["onnx"], "nvcr.io/nvidia/tensorflow:24.03-tf2-py3"),
        ({"container_version": "25.07"}, ["onnx", "trt"], "nvcr.io/nvidia/tritonserver:25.07-py3"),
        ({"container_version": "24.03", "framework_docker_image": "mine"}, ["onnx"], "mine"),
        ({"framework_docker_image": "mine", "triton_docker_image": "server"}, ["onnx"], "mine"),
        ({"framework_docker_image": "mine", "triton_docker_image": "server"}, ["trt"], "server"),
        ({"framework_docker_image": "mine"}, ["trt"], "mine"),
        (
            {"container_version": "25.02", "triton_docker_image": "server"},
            ["tf-trt"],
            "nvcr.io/nvidia/tensorflow:25.02-tf2-py3",
        ),
    ],
)
def test_image_follows_from_options_and_targets(options: dict[str, str], targets: list[str], image: str) -> None:
    defaults: dict[str, Any] = {"container_version": None, "framework_docker_image": None, "triton_docker_image": None}
    assert base_image(ContainerOptions(**{**defaults, **options}), [Format(name) for name in targets]) == image


def test_targets_of_different_images_are_refused_together() -> None:
    options = ContainerOptions("25.02", None, None)
    with pytest.raises(UsageError, match="trt is made in the server's image, tf-trt in the framework's"):
        base_image(options, [Format.TRT, Format.TF_TRT])


def test_docker_launch_mode_needs_an_image(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _convert("there", model, "--launch-mode", "docker") == 1
    assert "error: --launch-mode docker needs an image: give --framework-docker-image" in capfd.readouterr().err


def test_gpus_are_given_by_index_or_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mock_nvidia_smi = tmp_path / "nvidia-smi"
    mock_nvidia_smi.write_text("#!/bin/sh\necho NVIDIA A30\necho NVIDIA A30\n")
    mock_nvidia_smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_gpus(["all"]) == [0, 1]
    assert find_gpus(["1"]) == [1]
    with pytest.raises(DeviceError, match="--gpus 2: this machine's GPUs are 0 to 1"):
        find_gpus(["0", "2"])
    with pytest.raises(UsageError, match="--gpus first: give all, or indices"):
        find_gpus(["first"])
    job = ContainerJob(["-n", "tiny"], Format.ONNX, [Format.TRT], [tmp_path], [])
    request = job.spec("image", find_gpus(["all"])).to_api()["HostConfig"]["DeviceRequests"]
    assert request == [{"Driver": "", "DeviceIDs": ["0", "1"], "Capabilities": [["gpu"]]}]
    mock_nvidia_smi.write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus(["all"]) == []
    with pytest.raises(DeviceError, match="--gpus 0 needs an NVIDIA GPU"):
        find_gpus(["0"])


def test_folder_of_a_file_or_pattern_is_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    for folder in (work, tmp_path / "data" / "valid", tmp_path / "models" / "m.savedmodel"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(work)
    values = ["tiny", 3, None, f"{tmp_path}/data/valid/*.parquet", Path("../models/m.savedmodel"), ["/none/of/that"]]
    assert set(read_folders(values)) == {tmp_path / "data", tmp_path / "models"}
    assert set(read_folders(["/usr", "/usr/lib"])) == {Path("/usr"), Path("/usr/lib")}


def test_launch_options_are_not_passed_into_the_container() -> None:
    outside = [
        "--launch-mode",
        "docker",
        "--gpus",
        "0",
        "1",
        "--container-version=24.03",
        "--override-conversion-container",
    ]
    assert inner_arguments(["-n", "tiny", *outside, "-v", "--atol", "1e-3"]) == ["-n", "tiny", "-v", "--atol", "1e-3"]


def _remove_images(*names: str) -> None:
    """Removes the images whose names begin with one of these."""
    with contextlib.closing(docker.from_env()) as client:
        for tag in sorted({tag for image in client.images.list() for tag in image.tags}):  # children first
            if tag.removeprefix("docker.io/library/").removeprefix("localhost/").startswith(names):
                client.images.remove(tag, force=True)


def _arguments(folder: str, model: Path, *options: str) -> list[str]:
    own = ["-n", "tiny", "-p", str(model), "-o", f"{folder}/out.onnx", "--workspace-path", f"{folder}/workspace"]
    return ["convert", *own, "--max-batch-size", "8", *options]


def _mend_with(dockerfile: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces the project's Dockerfile of converter images by a small one."""
    dockerfile.parent.mkdir()
    dockerfile.write_text(MENDED)
    monkeypatch.setattr(converter_image, name, dockerfile)


def _convert(folder: str, model: Path, *options: str) -> object:
    with pytest.raises(SystemExit) as raised:
        run_entry_point(main, _arguments(folder, model, *options))
    return raised.value.code


def _results(folder: str) -> list[dict[str, Any]]:
    text = Path(folder, "workspace", "convert_model_results.yaml").read_text().replace(folder, "folder")
    results: list[dict[str, Any]] = yaml.safe_load(text)
    for result in results:
        del result["seconds"]
    return results


def _log(folder: str) -> str:
    text = Path(folder, "workspace", "converted", "onnx.log").read_text().replace(folder, "folder")
    return re.sub(r"\S+ \d\d:\d\d:\d\d,\d+|[\d.]+ s\b", "", text)
