from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.core import Format, Host, ModelSpec, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import DataError, ModelError
from tests.small_disk import mounted

SPEC = ModelSpec((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
SAVEDMODEL = ["saved_model.pb", "assets.extra/model_spec.yaml", "variables/variables.index"]
SAVED = [f"model.savedmodel/{name}" for name in SAVEDMODEL]
IR = ["model.xml", "model.bin"]
PLAN = ["model.plan", "model_spec.yaml", "build.yaml"]


def write(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"content of {name}")


def run_sha256sum(folder: Path) -> list[str]:
    """Files that coreutils finds unchanged by the folder's list."""
    done = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=True
    )
    return sorted(line.removesuffix(": OK") for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    ("model_format", "host", "files", "source", "served"),
    [
        (Format.TF_SAVEDMODEL, Host.NATIVE, SAVEDMODEL, ".", SAVED),
        (Format.TF_SAVEDMODEL, Host.PYTHON, SAVEDMODEL, ".", [*SAVED, "model.py"]),
        (Format.TF_TRT, Host.NATIVE, SAVEDMODEL, ".", SAVED),
        (Format.ONNX, Host.NATIVE, ["some.onnx"], "some.onnx", ["model.onnx"]),
        (Format.ONNX, Host.PYTHON, ["some.onnx"], "some.onnx", ["model.onnx", "model.py"]),
        (Format.TRT, Host.NATIVE, PLAN, ".", PLAN),
        (Format.TRT, Host.NATIVE, ["some.plan"], "some.plan", ["model.plan"]),
        (Format.OPENVINO, Host.NATIVE, IR, ".", IR),
        (Format.OPENVINO, Host.PYTHON, IR, ".", [*IR, "model.py"]),
        (Format.OPENVINO, Host.NATIVE, ["some.xml", "some.bin"], "some.xml", IR),
    ],
)
def test_version_folder_has_the_files_that_the_backend_loads(
    model_format: Format, host: Host, files: list[str], source: str, served: list[str], tmp_path: Path
) -> None:
    write(tmp_path / "model", files)
    deployment = Deployment("served", SPEC, model_format, version=3, host=host)
    folder = add_model(tmp_path / "repository", deployment, tmp_path / "model" / source).folder
    stored = [str(path.relative_to(folder / "3")) for path in (folder / "3").rglob("*") if path.is_file()]
    assert sorted(stored) == sorted([*served, "SHA256SUMS"])
    assert run_sha256sum(folder / "3") == sorted(set(served) - {"model.py"})
    main = next(
        path
        for path in (folder / "3" / deployment.model_file, *(folder / "3").rglob("saved_model.pb"))
        if path.is_file()
    )
    assert main.read_text() == f"content of {files[0]}"
    assert add_model(tmp_path / "repository", deployment, tmp_path / "model" / source).copied is False


@pytest.mark.parametrize(
    ("files", "source", "model_format", "message"),
    [
        (["some.xml"], "some.xml", Format.OPENVINO, r"some\.xml is no OpenVINO model: there is no some\.bin beside it"),
        (["a"], ".", Format.OPENVINO, r"is no openvino: it is a folder without a model\.xml"),
        (["a"], "a", Format.TF_SAVEDMODEL, r"is no tf-savedmodel: a model of this format is a folder"),
        (["a"], "b", Format.TRT, "there is no model at .*b: export or convert it first"),
    ],
)
def test_invalid_model_leaves_the_repository_unchanged(
    files: list[str], source: str, model_format: Format, message: str, tmp_path: Path
) -> None:
    write(tmp_path / "model", files)
    with pytest.raises(ModelError, match=message):
        add_model(tmp_path / "repository", Deployment("served", SPEC, model_format), tmp_path / "model" / source)
    assert not (tmp_path / "repository").exists()


def test_links_need_no_room_on_the_disk_that_has_the_files(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "4m") as disk:
        (disk / "model.onnx").write_bytes(bytes(5 << 19))  # 2.5 MiB
        deployment = Deployment("served", SPEC, Format.ONNX, version=1, host=Host.NATIVE)
        with pytest.raises(DataError, match=r"model served needs 3\.5 MiB on the disk of .*, 1\.5 MiB are free"):
            add_model(disk / "repository", deployment, disk / "model.onnx")
        folder = add_model(disk / "repository", deployment, disk / "model.onnx", links=True).folder
        assert (folder / "1" / "model.onnx").samefile(disk / "model.onnx")
