"""ONNX files in fp16 and int8, converted by ``convert``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import ConversionError, UsageError
from deployment_toolkit.library.registry import loader
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main
from tests.asking import ask

Results = Callable[[], list[dict[str, Any]]]


def test_onnx_fp16_is_made_from_the_exported_file_compared_and_reused(
    command: list[str], tiny_savedmodel: Path, real_rows: list[str], tmp_path: Path, results: Results
) -> None:
    argv = [*command, "-p", str(tiny_savedmodel), *real_rows, "--target-precisions", "fp16", "fp32", "--atol", "1e-3"]
    main(argv)
    half, whole = results()
    assert [entry["name"] for entry in (half, whole)] == ["onnx-opset13-fp16", "onnx-opset13"]
    assert [entry["status"]["state"] for entry in (half, whole)] == ["succeeded"] * 2
    assert Path(half["path"]).stat().st_size < Path(whole["path"]).stat().st_size
    out = tmp_path / "out.onnx"
    assert out.read_bytes() == Path(half["path"]).read_bytes()
    assert loader(Format.ONNX)().read_spec(out) == loader(Format.ONNX)().read_spec(Path(whole["path"]))
    main(argv)
    assert [(entry["conversion"], entry["comparison"]) for entry in results()] == [("reused", "reused")] * 2


def test_onnx_fp16_must_meet_the_tolerances(command: list[str], tiny_savedmodel: Path, results: Results) -> None:
    with pytest.raises(ConversionError, match="onnx-opset13-fp16: .* rows out of tolerance"):
        main([*command, "-p", str(tiny_savedmodel), "--target-precisions", "fp16"])
    assert results()[0]["status"]["state"] == "failed"


def test_onnx_int8_is_calibrated_on_the_training_data_and_reused(
    command: list[str], tiny_savedmodel: Path, real_rows: list[str], training_rows: Path, results: Results
) -> None:
    argv = [*command, "-p", str(tiny_savedmodel), *real_rows, "--target-precisions", "int8"]
    with pytest.raises(UsageError, match="int8 is calibrated on training data: give --dataloader and --calibration"):
        main(argv)
    argv += ["--calibration-data-pattern", str(training_rows), "--calibration-rows", "800"]
    argv += ["--max-quantization-noise", "0.1"]
    main(argv)
    (made,) = results()
    assert made["name"] == "onnx-opset13-int8"
    assert "; hidden layers in int8, all of them, noise " in made["status"]["message"]
    assert loader(Format.ONNX)().precision(Path(made["path"])) is Precision.INT8
    main(argv)
    assert [(entry["conversion"], entry["comparison"]) for entry in results()] == [("reused", "reused")]
    main([*argv[:-1], "0.2"])
    assert [entry["conversion"] for entry in results()] == ["made"]
    with pytest.raises(ConversionError, match="int8: .* rows out of tolerance"):
        main([*argv, "--reduced-precision-atol", "1e-9"])


def test_cpp_host_runs_onnx_in_int8(
    server: tuple[TritonServer, Path],
    command: list[str],
    tiny_savedmodel: Path,
    real_rows: list[str],
    training_rows: Path,
    tmp_path: Path,
    arguments: Callable[..., list[str]],
) -> None:
    argv = [*command, "-p", str(tiny_savedmodel), *real_rows, "--target-precisions", "int8"]
    main([*argv, "--calibration-data-pattern", str(training_rows), "--max-quantization-noise", "0.1"])
    made = tmp_path / "out.onnx"
    running, repository = server
    options = ["--host", "cpp", "--load-model", "--max-batch-size", "64", "--server-url", running.http_url]
    main(arguments(made, repository, *options, name="onnx_int8"))
    parameters = running.model_config("onnx_int8")["parameters"]
    assert parameters["inference_precision"]["string_value"] == "int8"
    with loader(Format.ONNX)(threads=2).load(made) as session:
        x = random_rows(session.spec, 64, 3)
        (answer,) = ask(running, "onnx_int8", [x])
        assert isinstance(answer, dict)
        for name, expected in session.infer(x).items():
            np.testing.assert_array_equal(answer[name], expected)
