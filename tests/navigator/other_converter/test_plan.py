"""What triton-model-navigator is asked to make, without the library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployment_toolkit import hardware
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ConversionError, UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.library.base import stored_spec
from deployment_toolkit.library.tensorrt.plan import plan_build
from navigator.__main__ import main
from navigator.other_converter import converter

Results = Callable[[], list[dict[str, Any]]]
BY_LIBRARY = ["--converter", "triton-model-navigator"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--target-formats", "onnx", "openvino"],
            "makes no openvino of tf-savedmodel, only tf-savedmodel -> onnx, ",
        ),
        (["--target-formats", "tf-savedmodel"], "triton-model-navigator makes no tf-savedmodel of tf-savedmodel"),
        (["--target-precisions", "fp16"], "triton-model-navigator makes onnx in fp32, not in fp16: give one of these"),
        (["--target-formats", "trt", "--target-precisions", "tf32"], "makes trt in int8, fp16, fp32, not in tf32"),
        (["--launch-mode", "docker"], "--converter triton-model-navigator works with --launch-mode local only"),
        (["--converter", "other"], "--converter: .*choose from .?own.?, .?triton-model-navigator"),
    ],
)
def test_what_the_library_does_not_make_is_refused(
    command: list[str], summing_savedmodel: Path, options: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        main([*command, "-p", str(summing_savedmodel), *BY_LIBRARY, *options])
    assert not list(tmp_path.iterdir())


def test_missing_library_is_named_with_its_installation(
    command: list[str], summing_savedmodel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converter, "HOME", tmp_path / "none")
    with pytest.raises(UsageError, match=r"is not installed: run scripts/install.sh --model-navigator$"):
        main([*command, "-p", str(summing_savedmodel), *BY_LIBRARY])
    assert not list(tmp_path.iterdir())


def test_without_a_gpu_only_the_attempts_that_need_one_fail(
    command: list[str], summing_savedmodel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpu_names", list)
    argv = [*command, "-p", str(summing_savedmodel), *BY_LIBRARY, "--target-formats", "trt", "tf-trt"]
    with pytest.raises(ConversionError, match=r"trt-opset13-fp32-hierarchy-triton.*: .*GPU.*; tf-trt-fp32"):
        main(argv)


def test_plan_of_the_library_becomes_a_plan_of_this_project(
    command: list[str],
    summing_savedmodel: Path,
    results: Results,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a mock GPU, with a mock of the library's process and the source's engine for the plan."""
    jobs, environments = [], []

    def optimize(argv: list[str | Path], *, env: dict[str, str], log_path: Path) -> None:
        job = json.loads(Path(argv[-1]).read_text())
        jobs.append(job)
        environments.append(env)
        made = Path(job["workspace"]) / "trt-fp16" / "model.plan"
        made.parent.mkdir(parents=True)
        made.write_bytes(b"plan")
        told: dict[str, Any] = {
            "model": str(made),
            "runner": "TensorRT",
            "comparison": None,
            "profile": [],
            "tensorrt": "10.11.0.33",
        }
        Path(job["summary"]).write_text(json.dumps(told))
        log_path.touch()

    def loader(model_format: Format) -> Any:
        own = registry._find(registry.LOADERS, Format.TF_SAVEDMODEL, "", model_format)
        return lambda: SimpleNamespace(load=lambda path: own().load(summing_savedmodel), read_spec=own().read_spec)

    monkeypatch.setattr(converter, "run", optimize)
    monkeypatch.setattr(registry, "loader", loader)
    monkeypatch.setattr(hardware, "gpu_names", lambda: ["Mock GPU"])
    argv = [*command, "-p", str(summing_savedmodel), *BY_LIBRARY, "--target-formats", "trt", "--inputs"]
    argv += ["wide:-1,2:float32", "--target-precisions", "fp16", "--max-batch-size", "8"]
    main([*argv, "--tensorrt-max-workspace-size", "1000", "--tensorrt-sparse-weights"])

    (job,), (entry,) = jobs, results()
    assert entry["status"]["state"] == "succeeded"
    assert (job["target"], job["precision"], job["precision_mode"]) == ("trt", "fp16", "hierarchy")
    assert (job["opset"], job["max_workspace_size_bytes"], job["max_batch_size"]) == (13, 1000, 8)
    assert job["profiles"]["wide"] == [[1, 2], [8, 2], [8, 2]]
    assert len(job["samples"]) == 9 and (job["inputs"], job["outputs"]) == (
        ["item", "tags", "wide"],
        ["score", "twice"],
    )
    assert environments[0].get("CUDA_VISIBLE_DEVICES") != ""
    made = Path(entry["path"])
    build, spec = plan_build(made), stored_spec(made)
    assert "the comparison of triton-model-navigator failed" in caplog.text
    assert build is not None and (build.tensorrt, build.gpu, build.precisions) == ("10.11.0.33", "Mock GPU", ("fp16",))
    assert spec is not None and spec.value_ranges == {"item": (0, 9), "tags": (-1, 4)}
    assert (made / "model.plan").read_bytes() == b"plan"
