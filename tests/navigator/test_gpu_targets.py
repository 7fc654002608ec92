"""Conversion to TensorRT and TF-TRT, with mocks of the GPU, the converters and the engines."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from deployment_toolkit import hardware
from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.library.shape_profile import ShapeProfile
from navigator.__main__ import main

Results = Callable[[], list[dict[str, Any]]]
SIZES = {"price": 1, "ad_age": 1, "zone": 1, "ad": 1, "tags": 3}


class MockConverter:
    """A mock of a converter. It copies its source and keeps its options."""

    seen: ClassVar[list[dict[str, Any]]]

    def __init__(self, **options: Any) -> None:
        self.seen.append(options)

    def convert(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Options of the mock converters, on a mock GPU. The loader of the source format runs the "engines"."""
    module = ModuleType("mock_converters")
    module.MockConverter = MockConverter  # type: ignore[attr-defined]
    MockConverter.seen = []
    monkeypatch.setitem(sys.modules, "mock_converters", module)
    for hop in ((Format.ONNX, Format.TRT), (Format.TF_SAVEDMODEL, Format.TF_TRT)):
        monkeypatch.setitem(registry.CONVERTERS, hop, "mock_converters:MockConverter")
    monkeypatch.setitem(registry.LOADERS, Format.TRT, registry.LOADERS[Format.ONNX])
    monkeypatch.setitem(registry.LOADERS, Format.TF_TRT, registry.LOADERS[Format.TF_SAVEDMODEL])
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Mock GPU"])
    return MockConverter.seen


def test_options_reach_the_gpu_converters_and_decide_reuse(
    seen: list[dict[str, Any]],
    command: list[str],
    tiny_savedmodel: Path,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--target-formats", "trt", "tf-trt", "--target-precisions", "fp16", "--max-workspace-size", "1000"]
    options += ["--tensorrt-explicit-precision", "--tensorrt-strict-types", "--tensorrt-sparse-weights"]
    shapes = ["--min-shapes", "ad=2,1", "--opt-shapes", "ad=4,1", "--max-shapes", "ad=8,1"]
    argv = [*command, "-p", str(tiny_savedmodel), *options]
    main([*argv, *shapes])
    assert [entry["status"]["state"] for entry in results()] == ["succeeded", "succeeded"]
    profiles = {name: ShapeProfile((2, size), (4, size), (8, size)) for name, size in SIZES.items()}
    plan, engines = seen
    assert plan == {
        "precisions": (Precision.FP16, Precision.TF32, Precision.FP32),
        "explicit_precision": True,
        "strict_types": True,
        "sparse_weights": True,
        "max_workspace_size_bytes": 1000,
        "profiles": profiles,
    }
    assert engines == {"precision": Precision.FP16, "max_workspace_size_bytes": 1000, "profiles": profiles}

    main([*argv, *shapes])
    assert len(seen) == 2 and [entry["conversion"] for entry in results()] == ["reused", "reused"]
    main([*argv, *shapes[:-1], "ad=16,1"])
    assert len(seen) == 4
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Another mock GPU"])
    main([*argv, *shapes[:-1], "ad=16,1"])
    assert len(seen) == 6 and [entry["conversion"] for entry in results()] == ["made", "made"]


def test_real_gpu_converters_accept_the_options(tiny_savedmodel: Path, tmp_path: Path) -> None:
    """The real converters accept the options of the mock, as far as they can without a GPU."""
    profiles = {"x": ShapeProfile((1, 1), (2, 1), (2, 1))}
    registry.converter(Format.TF_SAVEDMODEL, Format.TF_TRT)(
        precision=Precision.FP16, max_workspace_size_bytes=1000, profiles=profiles
    )
    registry.converter(Format.ONNX, Format.TRT)(
        precisions=(Precision.FP16, Precision.TF32, Precision.FP32),
        explicit_precision=False,
        strict_types=True,
        sparse_weights=True,
        max_workspace_size_bytes=1000,
        profiles=profiles,
    )


def test_free_dimensions_need_max_shapes(
    seen: list[dict[str, Any]], command: list[str], tmp_path: Path, open_model: Path
) -> None:
    with pytest.raises(UsageError, match="trt-fp32-hierarchy needs bounds of every dimension: give --max-shapes of x"):
        main([*command, "-p", str(open_model), "--target-formats", "trt"])
    main([*command, "-p", str(open_model), "--target-formats", "trt", "--max-shapes", "x=8,4"])
    assert seen[0]["profiles"] == {"x": ShapeProfile((1, 1), (8, 4), (8, 4))}
