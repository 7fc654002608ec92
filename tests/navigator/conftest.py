from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from widedeep.features.spec import load_feature_spec


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TritonServer, Path]]:
    """A server with explicit model loading, and its repository."""
    folder = tmp_path_factory.mktemp("config_model")
    (folder / "repository").mkdir()
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        yield running, folder / "repository"


@pytest.fixture
def model(tiny_onnx: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the working directory, which is a new one."""
    monkeypatch.chdir(tmp_path)
    return tiny_onnx(tmp_path / "exported.onnx")


@pytest.fixture
def arguments() -> Callable[..., list[str]]:
    """Arguments of ``triton-config-model``: a model, a repository and more options."""

    def make(model: Path, repository: Path, *options: str, name: str = "tiny") -> list[str]:
        own = ["--model-name", name, "--model-path", str(model), "--model-repository", str(repository)]
        return ["triton-config-model", *own, *options]

    return make


@pytest.fixture
def outcome() -> Callable[[], dict[str, Any]]:
    """Reads the record of the last ``triton-config-model`` in the working directory."""

    def read() -> dict[str, Any]:
        path = Path("navigator_workspace") / "triton_config_model_results.yaml"
        (result,) = yaml.safe_load(path.read_text())
        return dict(result)

    return read


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """``convert`` into ``out.onnx`` of the test's folder; the model and more options follow."""
    workspace = tmp_path / "workspace"
    return ["convert", "-n", "tiny", "-o", str(tmp_path / "out.onnx"), "--workspace-path", str(workspace)]


@pytest.fixture
def real_rows(tiny_rows: list[str], tiny_folder: Path) -> list[str]:
    """Options that name a dataset of ``tiny_savedmodel``'s network."""
    return [*tiny_rows, "--feature-spec", str(tiny_folder / "feature_spec.yaml")]


@pytest.fixture
def training_rows(tiny_folder: Path, tmp_path: Path, write_parquet: Callable[..., Path]) -> Path:
    """Rows to calibrate int8 of ``tiny_savedmodel`` on."""
    spec = load_feature_spec(tiny_folder / "feature_spec.yaml")
    return write_parquet(tmp_path / "train.parquet", 900, seed=5, spec=spec)


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Reads the record of the last ``convert``."""

    def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = yaml.safe_load(
            (tmp_path / "workspace" / "convert_model_results.yaml").read_text()
        )
        return found

    return read


@pytest.fixture
def open_model(tmp_path: Path) -> Path:
    """A model ``y = x`` for float rows of any length."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "length"]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "open", [x], [y])
    path = tmp_path / "open.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path
