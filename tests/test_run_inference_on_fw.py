from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit import hardware
from deployment_toolkit.core import Array, Format
from deployment_toolkit.errors import DeploymentError, DeviceError, InputError, ModelError, UsageError
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.library.registry import converter
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.rows.dump import Dump
from export_model import main as export
from run_inference_on_fw import main
from tests.deployment_toolkit.library.mock_tensorrt import mock_gpu_host
from widedeep.data.parquet import ParquetDataset
from widedeep.features.spec import load_feature_spec


@pytest.fixture(scope="module")
def onnx_model(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    export([*tiny_options, "--output-path", str(path), "--output-type", "onnx"])
    return path


@pytest.fixture
def spec_option(tiny_folder: Path) -> list[str]:
    return ["--feature-spec", str(tiny_folder / "feature_spec.yaml")]


def answers(path: Path) -> Array:
    return np.concatenate([prediction.y_pred["wide_deep_model"] for prediction in Dump(path).predictions()])


def test_formats_all_give_equal_answers(
    tiny_options: list[str],
    tiny_rows: list[str],
    tiny_folder: Path,
    tiny_savedmodel: Path,
    onnx_model: Path,
    spec_option: list[str],
    tmp_path: Path,
) -> None:
    joined = " ".join(tiny_options).replace("--input-type ", "--input-type=").split()
    openvino = tmp_path / "tiny.openvino"
    converter(Format.ONNX, Format.OPENVINO)().convert(onnx_model, openvino)
    commands = {
        "keras": tiny_options,
        "keras_joined": joined,
        "savedmodel": ["--input-path", str(tiny_savedmodel), "--input-type", "tf-savedmodel", *spec_option],
        "onnx": ["--input-path", str(onnx_model), "--input-type", "onnx", "--threads", "1", *spec_option],
        "openvino": ["--input-path", str(openvino), "--input-type", "openvino", "--threads", "1", *spec_option],
    }
    for name, options in commands.items():
        main([*options, *tiny_rows, "--output-dir", str(tmp_path / name), "--dump-labels", "--batch-size", "300"])
    wanted = answers(tmp_path / "keras")
    assert wanted.shape == (700, 1) and np.ptp(wanted) > 0.1
    for name in commands:
        np.testing.assert_allclose(answers(tmp_path / name), wanted, rtol=0, atol=1e-6)

    spec = load_feature_spec(tiny_folder / "feature_spec.yaml")
    (rows,) = ParquetDataset(str(tiny_folder / "rows.parquet"), spec).batches(1000)
    (dumped,) = Dump(tmp_path / "onnx").predictions()
    assert np.array_equal(dumped.batch.ids, rows.ids)
    assert np.array_equal(dumped.batch.y["clicked"], rows.y["clicked"]) and dumped.batch.x == {}


def test_inputs_are_dumped_by_option(
    onnx_model: Path, tiny_rows: list[str], spec_option: list[str], tmp_path: Path
) -> None:
    argv = ["--input-path", str(onnx_model), "--input-type", "onnx", *tiny_rows, *spec_option]
    main([*argv, "--output-dir", str(tmp_path / "dump"), "--dump-inputs"])
    (dumped,) = Dump(tmp_path / "dump").predictions()
    assert sorted(dumped.batch.x) == ["ad", "ad_age", "price", "tags", "zone"]
    assert dumped.batch.x["tags"].shape == (700, 3) and dumped.batch.y == {}


def test_gpu_formats_run_on_a_gpu_host(
    onnx_model: Path,
    tiny_savedmodel: Path,
    tiny_rows: list[str],
    spec_option: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver and TensorRT are mocks. TensorFlow only claims to have TensorRT."""
    mock_gpu_host(monkeypatch)
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_tensorrt_build": True})
    shapes = {tensor.name: tensor.shape for tensor in OnnxLoader().read_spec(onnx_model).inputs}
    profiles = {name: ShapeProfile((1, *shape), (64, *shape), (300, *shape)) for name, shape in shapes.items()}
    converter(Format.ONNX, Format.TRT)(profiles=profiles).convert(onnx_model, tmp_path / "tiny.plan")
    models = {"onnx": onnx_model, "trt": tmp_path / "tiny.plan", "tf-trt": tiny_savedmodel}
    for name, path in models.items():
        argv = ["--input-path", str(path), "--input-type", name, *tiny_rows, *spec_option, "--batch-size", "300"]
        main([*argv, "--output-dir", str(tmp_path / "dumps" / name)])
        np.testing.assert_allclose(answers(tmp_path / "dumps" / name), answers(tmp_path / "dumps" / "onnx"), atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--input-type", "trt"], DeviceError, "a TensorRT plan needs an NVIDIA GPU and this machine shows none"),
        (["--input-type", "trt", "--threads", "2"], UsageError, "runs on a GPU and takes no --threads"),
        (["--input-type", "tf-trt"], DeviceError, "a model that went through TF-TRT needs an NVIDIA GPU"),
        (["--input-type", "openvino"], ModelError, r"is no OpenVINO model \(there is no .*model\.xml\)"),
        (["--input-type", "torchscript"], UsageError, "TensorFlow model: use tf-savedmodel or onnx"),
        (["--input-type", "pyt"], UsageError, "no model of format pyt can be run here: this is a TensorFlow model"),
        (["--input-type", "tf-estimator"], UsageError, "the estimator API is gone from TensorFlow: use tf-keras"),
        (["--input-type", "tf-savedmodel"], ModelError, "is not a SavedModel folder"),
        (["--input-path", "none.onnx"], ModelError, "there is no ONNX file at none.onnx"),
        (["--checkpoint-dir", "x"], UsageError, "unrecognized arguments: --checkpoint-dir x"),
    ],
)
def test_model_that_cannot_run_is_reported(
    onnx_model: Path,
    tiny_rows: list[str],
    spec_option: list[str],
    tmp_path: Path,
    options: list[str],
    error: type[DeploymentError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "gpu_names", lambda: [])
    argv = ["--input-path", str(onnx_model), "--input-type", "onnx", *tiny_rows, *spec_option]
    with pytest.raises(error, match=message):
        main([*argv, "--output-dir", str(tmp_path / "dump"), *options])
    assert list(tmp_path.iterdir()) == []


def test_rows_outside_the_signature_leave_no_dump(
    onnx_model: Path, tiny_rows: list[str], tiny_folder: Path, tmp_path: Path
) -> None:
    text = (tiny_folder / "feature_spec.yaml").read_text()
    (tmp_path / "spec.yaml").write_text(text.replace("max_hotness: 3", "max_hotness: 4"))
    argv = ["--input-path", str(onnx_model), "--input-type", "onnx", *tiny_rows]
    with pytest.raises(InputError, match=r"input tags is int32\[700, 4\], the model takes int32\['batch', 3\]"):
        main([*argv, "--feature-spec", str(tmp_path / "spec.yaml"), "--output-dir", str(tmp_path / "dump")])
    assert [path.name for path in tmp_path.iterdir()] == ["spec.yaml"]
