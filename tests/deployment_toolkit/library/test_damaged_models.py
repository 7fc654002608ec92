"""Model files that are damaged in many ways, the same in every run: the libraries answer with them or refuse them, and
the refusal is one line of this project's."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import Format
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.library.registry import loader, read_spec, stored_precision
from tests.limits import few_resources
from tests.mutations import damaged
from tests.small_networks import summing

COPIES = {Format.ONNX: 60, Format.OPENVINO: 15, Format.TF_SAVEDMODEL: 5}  # of each file; TensorFlow is the slowest


def use(model_format: Format, path: Path) -> None:
    stored_precision(model_format, path)
    read_spec(model_format, path)
    session = loader(model_format)().load(path)
    session.infer({item.name: np.zeros((2, *item.smallest_shape), item.dtype) for item in session.spec.inputs})


@pytest.mark.parametrize("model_format", list(COPIES))
def test_damaged_model_is_refused_in_one_line(model_format: Format, tmp_path: Path) -> None:
    model = summing().write(model_format, tmp_path / "good")
    use(model_format, model)
    copy, told = tmp_path / "damaged" / model.name, 0
    copy.parent.mkdir()
    for file in sorted(path for path in (model, *model.rglob("*")) if path.is_file()):
        for content in damaged(file.read_bytes(), COPIES[model_format]):
            (shutil.copytree if model.is_dir() else shutil.copyfile)(model, copy)
            (copy / file.relative_to(model)).write_bytes(content)
            with few_resources():
                try:
                    use(model_format, copy)
                except DeploymentError:
                    told += 1
            (shutil.rmtree if model.is_dir() else Path.unlink)(copy)
    assert told, "no copy was damaged"
