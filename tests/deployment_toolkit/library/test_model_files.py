from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.core import Format
from deployment_toolkit.errors import ModelError
from deployment_toolkit.library.model_files import MAIN_FILES, SUFFIXES, format_of, require_format


@pytest.mark.parametrize("model_format", [item for item in SUFFIXES if item is not Format.TF_TRT])
def test_format_follows_from_the_suffix(model_format: Format) -> None:
    assert format_of(Path(f"model{SUFFIXES[model_format]}")) is model_format


def test_format_of_a_folder_follows_from_its_files(tmp_path: Path) -> None:
    assert format_of(tmp_path) is None
    for model_format, name in MAIN_FILES.items():
        if model_format is not Format.TF_TRT:
            folder = tmp_path / str(model_format)
            folder.mkdir()
            (folder / name).write_bytes(b"model")
            assert format_of(folder) is model_format
            require_format(folder, model_format)
    assert format_of(tmp_path / "openvino" / "model.xml") is Format.OPENVINO


@pytest.mark.parametrize(
    ("name", "model_format", "message"),
    [
        ("none", Format.ONNX, "there is no model at .*none: export or convert it first"),
        ("folder", Format.ONNX, "is no onnx: a model of this format is a file"),
        ("folder", Format.TF_SAVEDMODEL, r"is no tf-savedmodel: it is a folder without a saved_model\.pb"),
        ("folder", Format.TRT, r"is no trt: it is a folder without a model\.plan"),
        ("file", Format.TF_TRT, r"is no tf-trt: a model of this format is a folder with a saved_model\.pb"),
    ],
)
def test_path_of_another_format_is_refused(name: str, model_format: Format, message: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"plan")
    with pytest.raises(ModelError, match=message):
        require_format(tmp_path / name, model_format)
    require_format(tmp_path / "file", Format.TRT)  # of another origin
