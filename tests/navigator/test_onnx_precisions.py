"""ONNX files in fp16, converted by ``convert``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.core import Format
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.library.registry import loader
from navigator.__main__ import main

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
