"""OpenVINO models in bf16 and int8, converted by ``convert``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.core import Precision
from deployment_toolkit.errors import ConversionError, DataError, UsageError
from deployment_toolkit.hardware import missing_instructions
from navigator.__main__ import main
from widedeep.features.spec import load_feature_spec

Results = Callable[[], list[dict[str, Any]]]
PRECISIONS = (Precision.BF16, Precision.INT8)
pytestmark = pytest.mark.skipif(
    any(map(missing_instructions, PRECISIONS)), reason="; ".join(filter(None, map(missing_instructions, PRECISIONS)))
)


@pytest.fixture
def argv(command: list[str], tiny_savedmodel: Path, real_rows: list[str]) -> list[str]:
    """``convert`` to OpenVINO on real rows; precisions follow."""
    return [*command, "-p", str(tiny_savedmodel), *real_rows, "--target-formats", "openvino", "--target-precisions"]


def test_int8_is_calibrated_on_the_training_data(
    argv: list[str],
    training_rows: Path,
    tiny_folder: Path,
    write_parquet: Callable[..., Path],
    results: Results,
) -> None:
    argv = [*argv, "int8", "bf16", "fp32", "--calibration-data-pattern", str(training_rows)]
    argv += ["--calibration-rows", "800", "--max-quantization-noise", "0.1"]
    main(argv)
    assert [entry["name"] for entry in results()] == [
        f"openvino-opset13-{precision}" for precision in ("int8", "bf16", "fp32")
    ]
    assert [entry["status"]["state"] for entry in results()] == ["succeeded"] * 3
    assert "; hidden layers in int8, all of them, noise " in results()[0]["status"]["message"]
    main(argv)
    assert [(entry["conversion"], entry["comparison"]) for entry in results()] == [("reused", "reused")] * 3
    assert "hidden layers in int8" in results()[0]["status"]["message"]
    spec = load_feature_spec(tiny_folder / "feature_spec.yaml")
    write_parquet(training_rows, 900, seed=6, spec=spec)
    main(argv)
    assert [entry["conversion"] for entry in results()] == ["made", "reused", "reused"]


def test_reduced_precisions_have_a_separate_tolerance(argv: list[str], results: Results) -> None:
    main([*argv, "bf16", "--atol", "0", "--rtol", "0"])
    with pytest.raises(ConversionError, match="bf16: .* rows out of tolerance"):
        main([*argv, "bf16", "--reduced-precision-atol", "1e-7"])
    assert results()[0]["conversion"] == "reused"


def test_missing_calibration_is_reported_before_the_conversion(
    argv: list[str], command: list[str], tiny_savedmodel: Path, tmp_path: Path
) -> None:
    for options in ([], ["--calibration-data-pattern", str(tmp_path / "train.parquet")]):
        plain = [*command, "-p", str(tiny_savedmodel), "--target-formats", "openvino", "--target-precisions", "int8"]
        with pytest.raises(UsageError, match="give --dataloader and --calibration-data-pattern"):
            main([*plain, *options])
    with pytest.raises(DataError, match="none"):
        main([*argv, "int8", "--calibration-data-pattern", str(tmp_path / "none.parquet")])
    with pytest.raises(UsageError, match="--calibration-rows must be at least 2, not 1"):
        main([*argv, "int8", "--calibration-data-pattern", "x", "--calibration-rows", "1"])
    with pytest.raises(UsageError, match="--max-quantization-noise must be above 0, not 0"):
        main([*argv, "int8", "--calibration-data-pattern", "x", "--max-quantization-noise", "0"])
    assert not (tmp_path / "workspace").exists()
