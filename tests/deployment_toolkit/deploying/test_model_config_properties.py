"""Properties of the configuration of any deployment, in Triton's protobuf."""

from __future__ import annotations

from typing import Any

from google.protobuf import json_format, text_format
from hypothesis import event, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2 as pb

from deployment_toolkit.core import Accelerator, Batching, DeviceKind, Format, Host, ModelSpec, Precision, TensorSpec
from deployment_toolkit.deploying.deployment import DTYPES, Deployment
from deployment_toolkit.deploying.model_config import config_text, differences, parse_config

BACKENDS = {
    Format.TF_SAVEDMODEL: ("tensorflow", "model.savedmodel"),
    Format.TF_TRT: ("tensorflow", "model.savedmodel"),
    Format.ONNX: ("onnxruntime", "model.onnx"),
    Format.TRT: ("", "model.plan"),
    Format.OPENVINO: ("openvino", "model.xml"),
}
CHOICES = {
    Format.TF_SAVEDMODEL: list(Accelerator),
    Format.TF_TRT: list(Accelerator),
    Format.ONNX: [Accelerator.NONE, Accelerator.TRT],
    Format.TRT: [Accelerator.NONE],
    Format.OPENVINO: [Accelerator.NONE],
}
DEVICES = {Format.TF_TRT: [DeviceKind.GPU], Format.TRT: [DeviceKind.GPU], Format.OPENVINO: [DeviceKind.CPU]}
HOSTS = {
    Format.TF_SAVEDMODEL: [Host.NATIVE, Host.PYTHON],
    Format.ONNX: [Host.NATIVE, Host.PYTHON],
    Format.OPENVINO: list(Host),
}
ACCELERATORS = {Accelerator.NONE: [], Accelerator.AMP: ["auto_mixed_precision"], Accelerator.TRT: ["tensorrt"]}
KINDS = {DeviceKind.CPU: pb.ModelInstanceGroup.KIND_CPU, DeviceKind.GPU: pb.ModelInstanceGroup.KIND_GPU}

texts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8
)
ranges = st.none() | st.tuples(st.integers(-1, 5), st.integers(5, 2**31 - 1))


def specs(host: Host) -> st.SearchStrategy[ModelSpec]:
    """The C++ host carries no strings, the Python host none in answers."""
    shapes = st.lists(st.integers(1, 9) | st.just(-1), min_size=1, max_size=3).map(tuple)

    def tensors(strings: bool) -> st.SearchStrategy[TensorSpec]:
        dtypes = sorted(DTYPES if strings else DTYPES.keys() - {"object"})
        return st.builds(TensorSpec, texts, st.sampled_from(dtypes), shapes, ranges)

    inputs, outputs = tensors(host is not Host.CPP), tensors(host is Host.NATIVE)
    return st.builds(ModelSpec, st.lists(inputs, min_size=1, max_size=3), st.lists(outputs, min_size=1, max_size=2))


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    """Any combination of settings that do not contradict each other."""
    model_format = draw(st.sampled_from(list(BACKENDS)))
    host = draw(st.sampled_from(HOSTS.get(model_format, [Host.NATIVE])))
    hosted_on = list(DeviceKind) if (model_format, host) == (Format.ONNX, Host.PYTHON) else [DeviceKind.CPU]
    devices = DEVICES.get(model_format, list(DeviceKind)) if host is Host.NATIVE else hosted_on
    engines = draw(st.dictionaries(st.sampled_from(devices), st.integers(1, 4), max_size=2))
    on_gpu = host is Host.NATIVE and engines.keys() != {DeviceKind.CPU}
    accelerator = draw(st.sampled_from(CHOICES[model_format])) if on_gpu else Accelerator.NONE
    batching = draw(st.sampled_from(Batching))
    max_batch_size = draw(st.sampled_from([1, 8, 131072] + [0] * (batching is Batching.DISABLED)))
    threads = st.dictionaries(st.just("threads"), st.integers(1, 64).map(str), max_size=1)
    return Deployment(
        "model",
        draw(specs(host)),
        model_format,
        version=draw(st.integers(1, 9)),
        host=host,
        batching=batching,
        max_batch_size=max_batch_size,
        preferred_batch_sizes=draw(st.lists(st.integers(1, max(1, max_batch_size)), max_size=3).map(tuple)),
        max_queue_delay_us=draw(st.sampled_from([0, 1, 500])),
        engine_count_per_device=engines,
        backend_accelerator=accelerator,
        precision=draw(st.sampled_from([Precision.FP32, Precision.FP16, Precision.INT8])),
        tensorrt_capture_cuda_graph=draw(st.booleans()),
        backend_parameters=draw(st.dictionaries(texts, texts, max_size=2) if host is Host.NATIVE else threads),
    )


@settings(derandomize=True, max_examples=200, deadline=None)
@given(deployments())
def test_config_pbtxt_is_complete(deployment: Deployment) -> None:
    event(f"{deployment.format} {deployment.host}")
    text = config_text(deployment)
    config = parse_config(text)
    assert parse_config(text_format.MessageToString(config)) == config, "something is lost on the way"
    assert differences(config, _as_json(config)) == []

    batched = deployment.batching is not Batching.DISABLED
    assert text.count(f"max_batch_size: {deployment.max_batch_size if batched else 0}\n") == 1
    assert config.WhichOneof("scheduling_choice") == (
        "dynamic_batching" if deployment.batching is Batching.DYNAMIC else None
    )
    if deployment.batching is Batching.DYNAMIC:
        assert f"max_queue_delay_microseconds: {deployment.max_queue_delay_us}\n" in text
        assert max(config.dynamic_batching.preferred_batch_size) <= deployment.max_batch_size
    assert list(config.version_policy.specific.versions) == [deployment.version]
    for stored, asked in zip(config.input, deployment.spec.inputs, strict=True):
        assert stored.name == asked.name
        assert list(stored.dims) == ([*asked.shape] if batched else [-1, *asked.shape])

    asked_instances = {KINDS[device]: count for device, count in deployment.engine_count_per_device.items()}
    instances = {group.kind: group.count for group in config.instance_group}
    assert instances == asked_instances if asked_instances else list(instances.values()) == [1]
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert [item.name for item in accelerators] == ACCELERATORS[deployment.backend_accelerator]
    if deployment.backend_accelerator is Accelerator.TRT:
        assert dict(accelerators[0].parameters) == {
            "precision_mode": str(deployment.precision).upper(),
            "max_workspace_size_bytes": str(deployment.tensorrt_max_workspace_size_bytes),
        }
    graphs = deployment.tensorrt_capture_cuda_graph and deployment.format is Format.TRT
    assert config.optimization.cuda.graphs == graphs
    if deployment.host is Host.NATIVE:
        assert (config.backend, config.default_model_filename) == BACKENDS[deployment.format]
        assert config.platform == {"": "tensorrt_plan", "tensorflow": "tensorflow_savedmodel"}.get(config.backend, "")
    if deployment.host is Host.CPP:
        assert (config.backend, config.default_model_filename) == ("cpp_host", BACKENDS[deployment.format][1])
    for key, value in deployment.backend_parameters.items():
        assert config.parameters[key].string_value == value


def _as_json(config: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return plain
