from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployment_toolkit.errors import UsageError
from deployment_toolkit.triton_performance_runner.options import PerformanceOptions
from deployment_toolkit.triton_performance_runner.target import _spec_of_files


def test_value_ranges_are_read_from_files_of_the_repository(tiny_onnx: Callable[..., Path], tmp_path: Path) -> None:
    version = tmp_path / "tiny" / "1"
    version.mkdir(parents=True)
    tiny_onnx(version / "model.onnx")
    options = PerformanceOptions(model_name="tiny", result_path=tmp_path / "results.csv")
    spec = _spec_of_files(options, tmp_path)
    assert spec is not None and spec.value_ranges == {"item": (0, 9), "tags": (-1, 4)}
    (version / "model.onnx").unlink()
    assert _spec_of_files(options, tmp_path) is None
    other = PerformanceOptions(model_name="other", result_path=tmp_path / "results.csv")
    with pytest.raises(UsageError, match=r"does not hold other/1"):
        _spec_of_files(other, tmp_path)
