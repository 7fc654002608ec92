from __future__ import annotations

import inspect
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from deployment_toolkit import hardware
from deployment_toolkit.core import Arrays, Format, Precision
from deployment_toolkit.errors import ConversionError, DeviceError, ModelError, UsageError
from deployment_toolkit.library.registry import converter, loader
from deployment_toolkit.library.shape_profile import ShapeProfile
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.library.tensorflow.tf_trt import TfTrtFromSavedModel, TfTrtLoader
from deployment_toolkit.rows.sample import random_rows

SHAPES = {"price": 1, "ad_age": 1, "zone": 1, "ad": 1, "tags": 3}
PROFILES = {name: ShapeProfile((1, size), (64, size), (256, size)) for name, size in SHAPES.items()}
REAL = tf.experimental.tensorrt.Converter


class MockConverter:
    """A mock of the TF-TRT converter. It takes the arguments and the order of calls of the real class. Its "engines"
    are the SavedModel itself, which answers the rows that engines would be built with."""

    made: list[MockConverter]

    def __init__(self, *args: Any, **options: Any) -> None:
        inspect.signature(REAL.__init__).bind(self, *args, **options)
        self.options, self.calls, self.built_for = options, ["init"], []  # type: ignore[var-annotated]
        MockConverter.made.append(self)

    def convert(self, *args: Any, **options: Any) -> None:
        inspect.signature(REAL.convert).bind(self, *args, **options)
        self.calls.append("convert")

    def build(self, *args: Any, **options: Any) -> None:
        bound = inspect.signature(REAL.build).bind(self, *args, **options)
        batches: Callable[[], Iterator[Arrays]] = bound.arguments["input_fn"]
        with SavedModelLoader().load(Path(self.options["input_saved_model_dir"])) as session:
            for x in batches():
                session.infer(x)
                self.built_for.append({name: array.shape for name, array in x.items()})
        self.calls.append("build")

    def save(self, *args: Any, **options: Any) -> None:
        bound = inspect.signature(REAL.save).bind(self, *args, **options)
        target = Path(bound.arguments["output_saved_model_dir"])
        shutil.copytree(self.options["input_saved_model_dir"], target, ignore=shutil.ignore_patterns("assets.extra"))
        self.calls.append("save")


@pytest.fixture
def gpu_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU and a TensorFlow that claims to be built with TensorRT, both of them mocks."""
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Mock A30"])
    monkeypatch.setattr(tf.sysconfig, "get_build_info", lambda: {"is_tensorrt_build": True})


@pytest.fixture
def mock(gpu_host: None, monkeypatch: pytest.MonkeyPatch) -> type[MockConverter]:
    MockConverter.made = []
    monkeypatch.setattr(tf.experimental.tensorrt, "Converter", MockConverter)
    return MockConverter


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_tf_trt_converter_gets_all_options_and_profiles(
    precision: Precision, mock: type[MockConverter], tiny_savedmodel: Path, tmp_path: Path
) -> None:
    made = TfTrtFromSavedModel(precision=precision, max_workspace_size_bytes=2**20, profiles=PROFILES)
    made.convert(tiny_savedmodel, tmp_path / "made")
    (told,) = mock.made
    assert told.calls == ["init", "convert", "build", "save"]
    assert told.options == {
        "input_saved_model_dir": str(tiny_savedmodel),
        "input_saved_model_signature_key": "serving_default",
        "use_dynamic_shape": True,
        "dynamic_shape_profile_strategy": "Range+Optimal",
        "max_workspace_size_bytes": 2**20,
        "precision_mode": str(precision).upper(),
        "use_calibration": False,
        "allow_build_at_runtime": False,
    }
    sizes = [{name: (rows, size) for name, size in SHAPES.items()} for rows in (64, 1, 256)]
    assert told.built_for == sizes


def test_tf_trt_model_keeps_its_value_ranges_when_copied(
    mock: type[MockConverter], tiny_savedmodel: Path, tmp_path: Path
) -> None:
    converter(Format.TF_SAVEDMODEL, Format.TF_TRT)(profiles=PROFILES).convert(tiny_savedmodel, tmp_path / "made")
    converter(Format.TF_TRT, Format.TF_TRT)().convert(tmp_path / "made", tmp_path / "copy")
    source = SavedModelLoader().load(tiny_savedmodel)
    assert loader(Format.TF_TRT)().read_spec(tmp_path / "copy") == source.spec
    with loader(Format.TF_TRT)().load(tmp_path / "copy") as session:
        assert session.spec == source.spec
        x = random_rows(source.spec, 9, seed=1)
        assert np.array_equal(session.infer(x)["wide_deep_model"], source.infer(x)["wide_deep_model"])


def test_tf_trt_needs_a_gpu(tiny_savedmodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "gpu_names", lambda: [])
    with pytest.raises(DeviceError, match="TF-TRT needs an NVIDIA GPU and this machine shows none"):
        TfTrtFromSavedModel(profiles=PROFILES).convert(tiny_savedmodel, tmp_path / "made")
    with pytest.raises(DeviceError, match="a model that went through TF-TRT needs an NVIDIA GPU"):
        TfTrtLoader().load(tiny_savedmodel)
    assert TfTrtLoader().read_spec(tiny_savedmodel).value_ranges["ad"] == (0, 19)


def test_tensorflow_without_tensorrt_is_reported(
    tiny_savedmodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Mock A30"])
    with pytest.raises(
        ConversionError,
        match=r"TensorFlow [0-9.]+ is built without TensorRT here, as all of PyPI's from 2.18 on: use NVIDIA's",
    ):
        TfTrtFromSavedModel(profiles=PROFILES).convert(tiny_savedmodel, tmp_path / "made")
    with pytest.raises(ModelError, match="is built without TensorRT here"):
        TfTrtLoader().load(tiny_savedmodel)


def test_converter_error_is_reported_with_its_message(gpu_host: None, tiny_savedmodel: Path, tmp_path: Path) -> None:
    """Uses the real class of this TensorFlow, which finds no TensorRT."""
    with pytest.raises(
        ConversionError, match=r"TF-TRT of TensorFlow [0-9.]+ can't convert .*: Tensorflow has not been"
    ):
        TfTrtFromSavedModel(profiles=PROFILES).convert(tiny_savedmodel, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_impossible_options_are_refused(mock: type[MockConverter], tiny_savedmodel: Path, tmp_path: Path) -> None:
    for precision in (Precision.INT8, Precision.TF32):
        with pytest.raises(UsageError, match=f"tf-trt can't be made as {precision}: use fp32 or fp16"):
            TfTrtFromSavedModel(precision=precision, profiles=PROFILES)
    with pytest.raises(UsageError, match="workspace of 0 bytes"):
        TfTrtFromSavedModel(max_workspace_size_bytes=0, profiles=PROFILES)
    with pytest.raises(UsageError, match=r"needs a shape profile for each of \['ad', 'ad_age', .* not for \['ad'\]"):
        TfTrtFromSavedModel(profiles={"ad": PROFILES["ad"]}).convert(tiny_savedmodel, tmp_path / "made")
    assert mock.made == []
