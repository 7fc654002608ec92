from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.errors import DataError, DeploymentError, InputError, ModelError, ProcessError, UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.process import run
from deployment_toolkit.rows.sample import random_rows
from export_model import main
from widedeep.features.spec import load_feature_spec

BAD_LOADER = """
import numpy as np

def get_dataloader_fn(*, rows: int = 0):
    ids = np.zeros(rows, np.int32)
    return lambda: iter([(ids, {"ad": ids}, {})] if rows else [])
"""


def test_exported_formats_have_equal_answers_and_signatures(
    tiny_options: list[str], tiny_rows: list[str], tiny_folder: Path, tmp_path: Path
) -> None:
    spec = load_feature_spec(tiny_folder / "feature_spec.yaml").model_spec
    x = random_rows(spec, 20, seed=1)
    answers = []
    (tmp_path / "made" / "tf-savedmodel" / "earlier").mkdir(parents=True)
    for output_type in (Format.TF_SAVEDMODEL, Format.ONNX):
        path = tmp_path / "made" / str(output_type)
        main([*tiny_options, *tiny_rows, "--output-path", str(path), "--output-type", str(output_type)])
        assert registry.loader(output_type)().read_spec(path) == spec
        with registry.loader(output_type)().load(path) as session:
            answers.append(session.infer(x)["wide_deep_model"])
    np.testing.assert_allclose(answers[0], answers[1], rtol=0, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == ["onnx", "tf-savedmodel"]
    assert not (tmp_path / "made" / "tf-savedmodel" / "earlier").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input-type", "pyt"], "pyt can't be exported as onnx: this is a TensorFlow model: use tf-keras"),
        (["--input-type", "tf-estimator"], "the estimator API is gone from TensorFlow: use tf-keras"),
        (["--output-type", "torchscript"], "can't be exported as torchscript: .* use tf-savedmodel or onnx"),
        (["--output-type", "trt"], r"'trt' \(choose from 'tf-savedmodel', 'torchscript', 'onnx'\)"),
        (["--torch-jit", "trace"], "--torch-jit trace is for PyTorch models: leave it out"),
        (["--nonsense", "1"], "unrecognized arguments: --nonsense 1"),
        (["--input-path", "none.py"], "there is no module at none.py"),
        (["--dataloader", str(ROOT / "metrics.py")], "metrics.py does not define get_dataloader_fn"),
    ],
)
def test_model_that_cannot_be_exported_is_reported(
    tiny_options: list[str], tmp_path: Path, options: list[str], message: str
) -> None:
    argv = [*tiny_options, "--output-path", str(tmp_path / "model"), "--output-type", "onnx", *options]
    with pytest.raises((UsageError, ModelError), match=message):
        main(argv)
    assert list(tmp_path.iterdir()) == []


def test_unknown_options_may_be_ignored(tiny_options: list[str], tmp_path: Path) -> None:
    argv = [*tiny_options, "--output-path", str(tmp_path / "model"), "--output-type", "onnx", "--torch-jit", "none"]
    main([*argv, "--ignore-unknown-parameters", "--nonsense", "1"])
    assert (tmp_path / "model").is_file()


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [("0", DataError, "loader.py yields no rows"), ("2", InputError, r"missing \['ad_age', 'price', 'tags', 'zone'\]")],
)
def test_model_that_cannot_answer_the_rows_is_not_written(
    tiny_options: list[str], tmp_path: Path, rows: str, error: type[DeploymentError], message: str
) -> None:
    (tmp_path / "loader.py").write_text(BAD_LOADER)
    (tmp_path / "model").write_text("an earlier one")
    argv = [*tiny_options, "--output-path", str(tmp_path / "model"), "--output-type", "onnx"]
    with pytest.raises(error, match=message):
        main([*argv, "--dataloader", str(tmp_path / "loader.py"), "--rows", rows])
    assert (tmp_path / "model").read_text() == "an earlier one"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["loader.py", "model"]


def test_command_line_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "triton").symlink_to(ROOT)
    argv: list[str | Path] = [
        sys.executable,
        tmp_path / "triton" / "export_model.py",
        "--input-path",
        ROOT / "model.py",
    ]
    with pytest.raises(ProcessError) as raised:
        run([*argv, "--output-path", "x", "--input-type", "pyt", "--output-type", "onnx"], log_path=tmp_path / "log")
    assert raised.value.returncode == 1
    assert raised.value.stderr == ("error: pyt can't be exported as onnx: this is a TensorFlow model: use tf-keras\n")
