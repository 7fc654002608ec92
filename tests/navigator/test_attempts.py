from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from deployment_toolkit.core import Format, Precision
from deployment_toolkit.errors import UsageError
from navigator.attempts import Attempt, PrecisionsMode, TargetOptions, list_attempts
from navigator.options import TensorRTOptions

FP16, FP32, INT8, TF32 = Precision.FP16, Precision.FP32, Precision.INT8, Precision.TF32


def attempts(source: Format = Format.ONNX, workspace: int = 4 * 2**30, **options: object) -> list[Attempt]:
    return list_attempts(TargetOptions(**options), source, TensorRTOptions(workspace))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "asked", "allowed"),
    [
        (PrecisionsMode.HIERARCHY, [FP16], {"trt-fp16-hierarchy": (FP16, TF32, FP32)}),
        (PrecisionsMode.HIERARCHY, [INT8], {"trt-int8-hierarchy": (INT8, FP16, TF32, FP32)}),
        (PrecisionsMode.SINGLE, [FP16, TF32], {"trt-fp16-single": (FP16,), "trt-tf32-single": (TF32,)}),
        (
            PrecisionsMode.MIXED,
            [FP16, FP32],
            {"trt-fp16-hierarchy": (FP16, TF32, FP32), "trt-fp32-hierarchy": (FP32,), "trt-fp16-single": (FP16,)},
        ),
    ],
)
def test_precisions_mode_sets_the_precisions_of_the_builder(
    mode: PrecisionsMode, asked: list[Precision], allowed: dict[str, tuple[Precision, ...]]
) -> None:
    made = attempts(target_formats=[Format.TRT], tensorrt_precisions=asked, tensorrt_precisions_mode=mode)
    assert {attempt.name: attempt.steps[-1].options["precisions"] for attempt in made} == allowed


def test_tensorrt_options_reach_the_builder() -> None:
    (made,) = attempts(
        target_formats=[Format.TRT],
        workspace=7,
        tensorrt_explicit_precision=True,
        tensorrt_strict_types=True,
        tensorrt_sparse_weights=True,
    )
    assert made.steps[-1].options == {
        "precisions": (FP32,),
        "explicit_precision": True,
        "strict_types": True,
        "sparse_weights": True,
        "max_workspace_size_bytes": 7,
    }
    assert made.needs_gpu


def test_format_without_a_direct_converter_goes_through_onnx() -> None:
    made = attempts(
        Format.TF_SAVEDMODEL,
        target_formats=[Format.TRT, Format.ONNX, Format.OPENVINO],
        onnx_opsets=[13, 15],
        tensorrt_precisions=[FP16],
    )
    assert [[step.name for step in attempt.steps] for attempt in made] == [
        ["onnx-opset13", "trt-opset13-fp16-hierarchy"],
        ["onnx-opset15", "trt-opset15-fp16-hierarchy"],
        ["onnx-opset13", "onnx-opset13-fp16"],
        ["onnx-opset15", "onnx-opset15-fp16"],
        ["onnx-opset13", "openvino-opset13-fp16"],
        ["onnx-opset15", "openvino-opset15-fp16"],
    ]
    assert made[0].steps[0] == made[2].steps[0]  # made once
    assert [attempt.needs_gpu for attempt in made] == [True, True, False, False, False, False]


def test_tf_trt_is_converted_from_the_savedmodel() -> None:
    (made,) = attempts(Format.TF_SAVEDMODEL, target_formats=[Format.TF_TRT], tensorrt_precisions=[FP16], workspace=9)
    assert [dataclasses.astuple(step)[:4] for step in made.steps] == [
        (
            "tf-trt-fp16",
            Format.TF_SAVEDMODEL,
            Format.TF_TRT,
            {"precision": FP16, "max_workspace_size_bytes": 9},
        )
    ]


def test_target_precisions_apply_to_formats_with_precisions(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    targets = [Format.TF_TRT, Format.TF_SAVEDMODEL, Format.ONNX, Format.OPENVINO]
    made = attempts(Format.TF_SAVEDMODEL, target_formats=targets, tensorrt_precisions=[FP16, INT8])
    reduced = [f"{target}-opset13-{precision}" for target in ("onnx", "openvino") for precision in (FP16, INT8)]
    assert [attempt.name for attempt in made] == ["tf-trt-fp16", "tf-savedmodel", *reduced]
    told = "--target-precisions fp16 int8: for tf-trt, onnx, openvino only, tf-savedmodel keeps the precision"
    assert told in caplog.text
    assert "tf-trt is made in fp16, fp32, no attempt at int8" in caplog.text


def test_onnx_fp16_is_made_from_the_exported_onnx_file() -> None:
    options: dict[str, Any] = {"target_formats": [Format.ONNX], "tensorrt_precisions": [FP16, FP32]}
    made = attempts(Format.TF_SAVEDMODEL, **options)
    assert [[step.name for step in attempt.steps] for attempt in made] == [
        ["onnx-opset13", "onnx-opset13-fp16"],
        ["onnx-opset13"],
    ]
    assert made[0].steps[0] == made[1].steps[0]  # made once
    half, whole = attempts(Format.ONNX, **options)
    assert [(step.name, step.options) for step in half.steps] == [("onnx-fp16", {"precision": FP16})]
    assert [(step.name, step.options) for step in whole.steps] == [("onnx", {})]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Format.ONNX, "--target-precisions tf32: onnx is made in int8, fp16, fp32, give one of these"),
        (Format.OPENVINO, "--target-precisions tf32: openvino is made in int8, bf16, fp16, fp32, give one of these"),
        (Format.TF_SAVEDMODEL, "onnx can't be converted to tf-savedmodel: supported are"),
        (Format.TORCHSCRIPT, "this is a TensorFlow model: use tf-savedmodel or onnx"),
    ],
)
def test_impossible_target_is_refused(target: Format, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        attempts(target_formats=[target], tensorrt_precisions=[TF32])


def test_options_without_effect_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    attempts(
        target_formats=[Format.ONNX],
        onnx_opsets=[14],
        workspace=1,
        tensorrt_precisions_mode=PrecisionsMode.SINGLE,
        tensorrt_strict_types=True,
    )
    assert caplog.messages == [
        "--tensorrt-precisions-mode, --tensorrt-strict-types: no effect here, for the target trt only",
        "--tensorrt-max-workspace-size: no effect here, for the targets trt and tf-trt only",
        "--onnx-opsets: no effect here, no ONNX file is made of another format",
    ]
    caplog.clear()
    attempts(Format.TF_SAVEDMODEL, target_formats=[Format.TRT], onnx_opsets=[14], tensorrt_strict_types=True)
    assert caplog.messages == []
