from __future__ import annotations

import dataclasses
import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployment_toolkit.core import (
    Accelerator,
    Batching,
    DeviceKind,
    Format,
    Host,
    ModelSpec,
    Precision,
    TensorSpec,
)
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.loading import sample_row
from deployment_toolkit.deploying.model_config import config_text, differences, parse_config
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

EXPECTED = Path(__file__).parent / "expected"
SPEC = ModelSpec(
    inputs=(
        TensorSpec("amount", "float32", (1,)),
        TensorSpec("item", "int32", (1,), (0, 9)),
        TensorSpec("tags", "int32", (3,), (-1, 4)),
    ),
    outputs=(TensorSpec("score", "float32", (1,)),),
)
GPU_2 = {DeviceKind.GPU: 2}

PYTHON = {
    "python_disabled": Deployment("python_disabled", SPEC, Format.ONNX, host=Host.PYTHON, batching=Batching.DISABLED),
    "python_static": Deployment("python_static", SPEC, Format.ONNX, host=Host.PYTHON, max_batch_size=16),
    "python_dynamic": Deployment(
        "python_dynamic",
        SPEC,
        Format.ONNX,
        version=3,
        host=Host.PYTHON,
        batching=Batching.DYNAMIC,
        max_batch_size=16,
        preferred_batch_sizes=(16, 8),
        max_queue_delay_us=100,
        engine_count_per_device={DeviceKind.CPU: 2},
        backend_parameters={"threads": "1"},
    ),
    "python_dynamic_defaults": Deployment(
        "python_dynamic_defaults", SPEC, Format.ONNX, host=Host.PYTHON, batching=Batching.DYNAMIC, max_batch_size=16
    ),
}
ON_GPU = {  # what a server without a GPU does with it: tests/navigator/test_triton_config_model.py
    "python_gpu": Deployment(
        "python_gpu",
        SPEC,
        Format.ONNX,
        host=Host.PYTHON,
        batching=Batching.DYNAMIC,
        max_batch_size=131072,
        engine_count_per_device=GPU_2,
    ),
}
NATIVE = {
    "savedmodel_amp": Deployment(
        "savedmodel_amp",
        SPEC,
        Format.TF_SAVEDMODEL,
        batching=Batching.DYNAMIC,
        max_batch_size=131072,
        preferred_batch_sizes=(131072,),
        engine_count_per_device=GPU_2,
        backend_accelerator=Accelerator.AMP,
        tensorrt_capture_cuda_graph=True,
    ),
    "tf_trt_static": Deployment("tf_trt_static", SPEC, Format.TF_TRT, max_batch_size=64, engine_count_per_device=GPU_2),
    "onnx_trt_disabled": Deployment(
        "onnx_trt_disabled",
        SPEC,
        Format.ONNX,
        batching=Batching.DISABLED,
        backend_accelerator=Accelerator.TRT,
        precision=Precision.FP16,
        tensorrt_max_workspace_size_bytes=8589934592,
        backend_parameters={"intra_op_thread_count": "4"},
    ),
    "plan_cuda_graphs": Deployment(
        "plan_cuda_graphs",
        SPEC,
        Format.TRT,
        batching=Batching.DYNAMIC,
        max_batch_size=131072,
        engine_count_per_device=GPU_2,
        precision=Precision.FP16,
        tensorrt_capture_cuda_graph=True,
    ),
    "savedmodel_disabled": Deployment(
        "savedmodel_disabled",
        SPEC,
        Format.TF_SAVEDMODEL,
        batching=Batching.DISABLED,
        engine_count_per_device={DeviceKind.CPU: 1},
        backend_parameters={"TF_NUM_INTRA_THREADS": "2"},
    ),
    "tf_trt_amp": Deployment(
        "tf_trt_amp",
        SPEC,
        Format.TF_TRT,
        batching=Batching.DYNAMIC,
        max_batch_size=64,
        engine_count_per_device=GPU_2,
        backend_accelerator=Accelerator.AMP,
    ),
    "savedmodel_trt_int8": Deployment(
        "savedmodel_trt_int8",
        SPEC,
        Format.TF_SAVEDMODEL,
        max_batch_size=64,
        engine_count_per_device=GPU_2,
        backend_accelerator=Accelerator.TRT,
        precision=Precision.INT8,
        tensorrt_max_workspace_size_bytes=1073741824,
    ),
    "onnx_both_devices": Deployment(
        "onnx_both_devices",
        SPEC,
        Format.ONNX,
        version=2,
        batching=Batching.DYNAMIC,
        max_batch_size=4096,
        preferred_batch_sizes=(4096, 1024),
        max_queue_delay_us=500,
        engine_count_per_device={DeviceKind.CPU: 1, DeviceKind.GPU: 2},
        backend_parameters={"intra_op_thread_count": "2", "execution_mode": "0"},
    ),
    "plan_disabled": Deployment(
        "plan_disabled", SPEC, Format.TRT, batching=Batching.DISABLED, engine_count_per_device=GPU_2
    ),
    "plan_static": Deployment("plan_static", SPEC, Format.TRT, max_batch_size=64, engine_count_per_device=GPU_2),
    "openvino_disabled": Deployment("openvino_disabled", SPEC, Format.OPENVINO, batching=Batching.DISABLED),
    "openvino_dynamic": Deployment(
        "openvino_dynamic",
        SPEC,
        Format.OPENVINO,
        batching=Batching.DYNAMIC,
        max_batch_size=4096,
        preferred_batch_sizes=(1024,),
        max_queue_delay_us=100,
        engine_count_per_device={DeviceKind.CPU: 2},
        backend_parameters={"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1"},
    ),
}


@pytest.fixture(scope="module")
def server(tiny_onnx: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("model_config")
    for deployment in PYTHON.values():
        add_model(folder / "repository", deployment, tiny_onnx(folder / "model.onnx"))
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        yield running


@pytest.mark.parametrize("name", [*PYTHON, *ON_GPU, *NATIVE])
def test_config_pbtxt_equals_the_expected_file(name: str) -> None:
    text = config_text((PYTHON | ON_GPU | NATIVE)[name])
    assert text == (EXPECTED / f"{name}.pbtxt").read_text()
    parsed = parse_config(text)
    assert ModelSpec.from_dict(json.loads(parsed.parameters["model_spec"].string_value)) == SPEC


@pytest.mark.parametrize("name", PYTHON)
def test_server_uses_the_config_unchanged(name: str, server: TritonServer) -> None:
    asked = parse_config(config_text(PYTHON[name]))
    server.load_model(name, timeout_s=60)
    with urllib.request.urlopen(f"{server.http_url}/v2/models/{name}/config") as answer:
        served = json.load(answer)
    assert differences(asked, served) == []
    scheduler = "dynamic_batching" if PYTHON[name].batching is Batching.DYNAMIC else None
    assert served.get("dynamic_batching") is not None if scheduler else "dynamic_batching" not in served
    assert served["max_batch_size"] == (0 if PYTHON[name].batching is Batching.DISABLED else 16)


def test_differences_name_the_settings_that_a_server_changed(server: TritonServer) -> None:
    server.load_model("python_dynamic_defaults", timeout_s=60)
    served = server.model_config("python_dynamic_defaults")
    changes: dict[str, Any] = {"batching": Batching.STATIC, "engine_count_per_device": {DeviceKind.CPU: 3}}
    asked = dataclasses.replace(PYTHON["python_dynamic_defaults"], **changes)
    lines = differences(parse_config(config_text(asked)), served)
    assert [line.partition(":")[0] for line in lines] == ["scheduler", "dynamic_batching", "instances"]
    assert "'dynamic_batching' instead of 'none'" in lines[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": Format.ONNX, "backend_accelerator": Accelerator.AMP}, "no accelerator amp: use one of none, trt"),
        ({"format": Format.TORCHSCRIPT}, "torchscript: this is a TensorFlow model: use tf-savedmodel or onnx"),
        ({"format": Format.TRT, "host": Host.PYTHON}, "no Python host for trt"),
        ({"format": Format.TF_TRT, "host": Host.PYTHON}, "no Python host for tf-trt"),
        ({"format": Format.TRT, "backend_accelerator": Accelerator.TRT}, "no accelerator trt: use one of none"),
        ({"format": Format.OPENVINO, "backend_accelerator": Accelerator.TRT}, "no accelerator trt: use one of none"),
        ({"format": Format.TRT, "engine_count_per_device": {DeviceKind.CPU: 1}}, "backend of trt runs on a gpu only"),
        (
            {"format": Format.TF_TRT, "engine_count_per_device": {DeviceKind.CPU: 1, DeviceKind.GPU: 1}},
            "the backend of tf-trt runs on a gpu only",
        ),
        ({"format": Format.OPENVINO, "engine_count_per_device": GPU_2}, "backend of openvino runs on a cpu only"),
        (
            {"backend_accelerator": Accelerator.AMP, "engine_count_per_device": {DeviceKind.CPU: 2}},
            "accelerator amp is one of a gpu: give engines for gpu, or accelerator none",
        ),
        (
            {"backend_accelerator": Accelerator.TRT, "precision": Precision.TF32},
            "the TensorRT accelerator has no precision tf32",
        ),
        ({"backend_parameters": {"model_spec": "{}"}}, "backend parameter model_spec is written from the model's"),
        (
            {"host": Host.PYTHON, "engine_count_per_device": GPU_2},
            "the Python host runs tf-savedmodel on a cpu only: give engines for cpu, or convert it to onnx",
        ),
        (
            {"format": Format.OPENVINO, "host": Host.PYTHON, "engine_count_per_device": {DeviceKind.CPU: 1} | GPU_2},
            "the Python host runs openvino on a cpu only",
        ),
        ({"host": Host.PYTHON, "backend_accelerator": Accelerator.AMP}, "with the Python host use none"),
        ({"host": Host.PYTHON, "backend_parameters": {"thread": "1"}}, "no parameter thread, only threads"),
        ({"host": Host.PYTHON, "backend_parameters": {"threads": "0"}}, "threads=0: use 1 or more"),
        ({"max_batch_size": 0}, "use 1 or more, or batching disabled"),
        ({"batching": Batching.DYNAMIC, "max_batch_size": 8, "preferred_batch_sizes": (4, 16)}, "16 is outside 1 .. 8"),
        ({"engine_count_per_device": {DeviceKind.CPU: 0}}, "engine count cpu=0"),
        ({"version": 0}, "version 0"),
        ({"name": "../x"}, "a model's name is made of"),
        ({"name": "modèle"}, "a model's name is made of letters from A to Z"),
    ],
)
def test_impossible_deployment_is_refused(changes: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"name": "model", "spec": SPEC, "format": Format.TF_SAVEDMODEL} | changes
    with pytest.raises(UsageError, match="can't be deployed") as failure:
        Deployment(**options)
    assert message in str(failure.value)


def test_invalid_config_pbtxt_is_refused_with_its_position() -> None:
    with pytest.raises(ModelError, match=r'here\.pbtxt is not a model configuration: 2:1 .*no field named "max_batch"'):
        parse_config('name: "x"\nmax_batch: 3\n', "here.pbtxt")


def test_sample_row_is_valid_for_the_model() -> None:
    shifted = ModelSpec((TensorSpec("id", "int32", (2,), (5, 9)), *SPEC.inputs), SPEC.outputs)
    batch = sample_row(shifted)
    assert shifted.check_inputs(batch.x) == 1
    assert batch.x["id"].tolist() == [[5, 5]]
