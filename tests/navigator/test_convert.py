from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from deployment_toolkit.core import Format
from deployment_toolkit.errors import DataError, DeploymentError, ModelError, UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.rows.sample import random_rows
from navigator.__main__ import main

TinyOnnx = Callable[..., Path]
Results = Callable[[], list[dict[str, Any]]]


def exit_code(argv: list[str]) -> object:
    """Exit code of the command as it is installed."""
    with pytest.raises(SystemExit) as raised:
        run_entry_point(main, argv)
    return raised.value.code


def test_savedmodel_becomes_onnx_with_equal_answers_to_real_rows(
    command: list[str],
    tiny_savedmodel: Path,
    real_rows: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    results: Results,
) -> None:
    caplog.set_level(logging.INFO)
    assert exit_code([*command, "--model-path", str(tiny_savedmodel), *real_rows, "--max-batch-size", "100"]) == 0

    (result,) = results()
    assert (result["name"], result["format"]) == ("onnx-opset13", "onnx")
    assert result["status"]["state"] == "succeeded"
    assert result["status"]["message"].startswith("173 rows agree, largest difference ")
    assert "converted in" in Path(result["status"]["log_path"]).read_text()
    assert "comparing on batches of [1, 8, 64, 100] real rows" in caplog.text
    assert (tmp_path / "out.onnx").read_bytes() == Path(result["path"]).read_bytes()

    (tmp_path / "out.onnx").rename(tmp_path / "renamed.onnx")  # one file holds all
    source, made = (
        registry.loader(model_format)().load(path)
        for model_format, path in (
            (Format.TF_SAVEDMODEL, tiny_savedmodel),
            (Format.ONNX, tmp_path / "renamed.onnx"),
        )
    )
    assert made.spec == source.spec
    x = random_rows(made.spec, 50, seed=1)
    np.testing.assert_allclose(made.infer(x)["wide_deep_model"], source.infer(x)["wide_deep_model"], rtol=0, atol=1e-6)


def test_random_rows_are_compared_without_a_dataloader(
    command: list[str], tiny_savedmodel: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, results: Results
) -> None:
    caplog.set_level(logging.INFO)
    main([*command, "--model-path", str(tiny_savedmodel), "--target-formats", "tf-savedmodel", "onnx"])
    assert "comparing on batches of [1, 8, 32] random rows" in caplog.text
    assert [result["name"] for result in results()] == ["tf-savedmodel", "onnx-opset13"]
    assert (tmp_path / "out.onnx" / "saved_model.pb").is_file()  # the first success
    assert registry.loader(Format.TF_SAVEDMODEL)().read_spec(tmp_path / "out.onnx").value_ranges["ad"] == (0, 19)


def test_comparison_accepts_fewer_rows_than_its_batches(
    command: list[str], tiny_savedmodel: Path, real_rows: list[str], tmp_path: Path, results: Results
) -> None:
    main([*command, "--model-path", str(tiny_savedmodel), *real_rows, "--max-batch-size", "4096"])
    assert results()[0]["status"]["message"].startswith("700 rows agree")


def test_answers_out_of_tolerance_fail_and_show_the_worst_rows(
    command: list[str],
    tiny_savedmodel: Path,
    real_rows: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    results: Results,
) -> None:
    argv = [*command, "--model-path", str(tiny_savedmodel), *real_rows, "--atol", "0", "--rtol", "0"]
    assert exit_code([*argv, "--onnx-opsets", "13", "14"]) == 1

    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: no conversion of {tiny_savedmodel} succeeded: onnx-opset13: onnx: ")
    assert "of 41 rows out of tolerance (wide_deep_model atol 0 rtol 0): row " in error
    assert "onnx-opset14" in error and " of wide_deep_model: 0." in error and " became 0." in error
    assert [result["status"]["state"] for result in results()] == ["failed", "failed"]
    assert [path.name for path in tmp_path.iterdir()] == ["workspace"]
    converted = {path.name for path in (tmp_path / "workspace" / "converted").iterdir()}
    assert converted == {f"onnx-opset{number}.{suffix}" for number in (13, 14) for suffix in ("onnx", "log")}


def test_failed_opset_does_not_stop_the_next(
    command: list[str], tiny_savedmodel: Path, tmp_path: Path, results: Results
) -> None:
    main([*command, "--model-path", str(tiny_savedmodel), "--onnx-opsets", "99", "13"])
    failed, succeeded = results()
    assert (failed["status"]["state"], succeeded["status"]["state"]) == ("failed", "succeeded")
    assert "can't write opset 99" in failed["status"]["message"] and not Path(failed["path"]).exists()
    assert "can't write opset 99" in Path(failed["status"]["log_path"]).read_text()
    assert "opset 99" not in Path(succeeded["status"]["log_path"]).read_text()
    assert onnx.load(str(tmp_path / "out.onnx")).opset_import[0].version == 13


def test_workspace_is_overridden_by_option_only(
    command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path, results: Results
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    earlier = tmp_path / "workspace" / "converted" / "earlier.onnx"
    earlier.parent.mkdir(parents=True)
    earlier.touch()
    foreign = tmp_path / "workspace" / "notes.txt"
    foreign.touch()
    main([*command, "-p", str(path)])
    assert earlier.exists()
    main([*command, "-p", str(path), "--override-workspace"])
    assert not earlier.exists() and foreign.exists() and results()[0]["name"] == "onnx"


def test_tolerances_are_given_by_output(
    command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    argv = [*command, "-p", str(tiny_onnx(tmp_path / "model.onnx"))]
    main([*argv, "--atol", "0", "score=1e-4", "--rtol", "score=0"])
    assert "--rtol" not in caplog.text
    main([*argv, "--rtol", "12.0"])
    assert "--rtol 12 of score lets every answer pass that differs by its own size" in caplog.text


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--atol", "other=1"], UsageError, "--atol other=1: the model has no output other, only score"),
        (["--rtol", "score=x"], UsageError, "--rtol: score=x: x is not a number"),
        (["--atol", "nan"], UsageError, "--atol: nan: a tolerance is at least 0"),
        (["--max-batch-size", "0"], UsageError, "--max-batch-size must be at least 1, not 0"),
        (["--launch-mode", "docker"], UsageError, "--launch-mode docker"),
        (["--target-formats", "torchscript"], UsageError, "this is a TensorFlow model: use tf-savedmodel or onnx"),
        (["--target-formats", "pyt"], UsageError, "this is a TensorFlow model: use tf-keras"),
        (["--target-formats", "tf-savedmodel"], UsageError, "onnx can't be converted to tf-savedmodel: supported"),
        (["--target-precisions", "tf32"], UsageError, "onnx is made in int8, fp16, fp32, give one of these"),
        (["-p", "none.onnx"], ModelError, "there is no model at none.onnx"),
        (
            ["--model-format", "tf-savedmodel"],
            ModelError,
            "is no tf-savedmodel: a model of this format is a folder with a saved_model.pb",
        ),
        (["--model-format", "torchscript"], UsageError, "torchscript can't be converted to onnx: this is a TensorFlow"),
        (["--value-ranges", "item=1"], UsageError, "item=1: 1 is not low,high in numbers"),
        (["--dataloader", "none.py"], ModelError, "there is no module at none.py"),
    ],
)
def test_wrong_command_is_reported_and_leaves_nothing(
    command: list[str],
    tiny_onnx: TinyOnnx,
    tmp_path: Path,
    options: list[str],
    error: type[DeploymentError],
    message: str,
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    with pytest.raises(error, match=message):
        main([*command, "-p", str(path), *options])
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_value_ranges_option_replaces_missing_ranges_of_the_model(
    command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path, results: Results
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    onnx.save(model, str(path))
    with pytest.raises(DataError, match="input item takes ids and nothing says how many there are"):
        main([*command, "-p", str(path)])
    main([*command, "-p", str(path), "--value-ranges", "item=0,9", "tags=-1,4"])
    assert results()[0]["status"]["state"] == "succeeded"
