from __future__ import annotations

import gc
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import deployment_toolkit.library.openvino  # noqa: F401 before any test imports OpenVINO
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.tensorflow_import import prepare_tensorflow
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.base_image import open_base_image, open_project_image
from tests.container_engine import open_engine
from tests.container_image import open_test_image
from tests.groups import group_of, place_of
from tests.serving_image import open_serving_image
from widedeep.data.random_parquet import write_random_parquet
from widedeep.features.outbrain import embedding_widths, outbrain_spec
from widedeep.features.spec import Feature, FeatureSpec

prepare_tensorflow()  # before the conftest.py of a folder imports TensorFlow

TinyOnnx = Callable[..., Path]
WriteParquet = Callable[..., Path]
SERVED_ADDER = Path(__file__).parent / "served_adder.py"
ADDER_CONFIG = """
name: "adder"
backend: "python"
max_batch_size: 64
input [ { name: "x1" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "x2" data_type: TYPE_INT32 dims: [ 3 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 1 ] } ]
instance_group [ { count: 4 kind: KIND_CPU } ]
parameters { key: "model_spec" value { string_value: '%s' } }
"""


def pytest_configure() -> None:
    """Makes Ctrl-C an interrupt for the tests and their child processes, also where a script started them in the
    background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.set_threshold(50_000)  # as for every entry point


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Takes back what an entry point that a test calls in this process sets for the rest of a process's life."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGURG)
    before = [signal.getsignal(number) for number in numbers]
    yield
    if [signal.getsignal(number) for number in numbers] != before:
        signal.set_wakeup_fd(-1)
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts the longest groups first, so that no worker runs one of them alone at the end."""
    groups = {item: group_of(item) for item in items}
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: place_of(groups[item]))


@pytest.fixture(scope="session")
def adder_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with the Python-backend model ``adder`` of served_adder.py."""
    repository = tmp_path_factory.mktemp("adder_repository")
    version = repository / "adder" / "1"
    version.mkdir(parents=True)
    shutil.copyfile(SERVED_ADDER, version / "model.py")
    spec = ModelSpec(inputs=(TensorSpec("x2", "int32", (3,), value_range=(-1, 999)),), outputs=())
    (version.parent / "config.pbtxt").write_text(ADDER_CONFIG % json.dumps(spec.to_dict()))
    return repository


@pytest.fixture(scope="session")
def adder_server(adder_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A running server that has loaded ``adder``."""
    log_path = tmp_path_factory.mktemp("adder_server") / "server.log"
    with local_server(adder_repository, log_path=log_path) as server:
        server.load_model("adder", timeout_s=60)
        yield server


@pytest.fixture(scope="session")
def container_engine() -> Iterator[bool]:
    """A container engine that the Docker SDK and the ``docker`` command find; its tests run in one worker. True if
    images stay in it for later test runs."""
    with open_engine() as keeps_images:
        yield keeps_images


@pytest.fixture(scope="session")
def container_image(container_engine: bool) -> Iterator[str]:
    """Name of an image with Python and the embedded server as ``tritonserver``."""
    with open_test_image(keep=container_engine) as name:
        yield name


@pytest.fixture(scope="session")
def base_image(container_engine: bool) -> Iterator[str]:
    """Name of a plain Debian 12 image."""
    with open_base_image(keep=container_engine) as name:
        yield name


@pytest.fixture(scope="session")
def project_image(container_engine: bool, base_image: str) -> Iterator[str]:
    """Name of the image that the project's Dockerfile builds on ``base_image``; the first time takes some minutes."""
    with open_project_image(base_image, keep=container_engine) as name:
        yield name


@pytest.fixture(scope="session")
def serving_image(container_engine: bool, base_image: str) -> Iterator[str]:
    """Name of the image that Dockerfile.serving builds on ``base_image``; the first time takes a minute or two."""
    with open_serving_image(base_image, keep=container_engine) as name:
        yield name


@pytest.fixture(scope="session")
def write_parquet() -> WriteParquet:
    """Writes valid random rows of a specification; ``columns`` replaces columns by data or leaves them out (None)."""

    def write(
        path: Path,
        rows: int,
        seed: int = 0,
        spec: FeatureSpec | None = None,
        row_group_rows: int = 1000,
        **columns: Any,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        spec = spec or outbrain_spec()
        return write_random_parquet(path, rows, spec=spec, seed=seed, row_group_rows=row_group_rows, columns=columns)

    return write


@pytest.fixture(scope="session")
def tiny_onnx() -> TinyOnnx:
    """Writes an ONNX model: ``score = amount + 10 * item + the sum of tags``, ``item`` an id below 10, ``tags`` three
    ids below 5 or -1. ``declared_items`` is the cardinality in the model's specification: with more than 10 the model
    fails for ids from 10 on."""

    def write(path: Path, declared_items: int = 10) -> Path:
        inputs = (
            TensorSpec("amount", "float32", (1,)),
            TensorSpec("item", "int32", (1,), (0, declared_items - 1)),
            TensorSpec("tags", "int32", (3,), (-1, 4)),
        )
        spec = ModelSpec(inputs, (TensorSpec("score", "float32", (1,)),))
        nodes = [
            helper.make_node("Gather", ["table", "item"], ["looked_up"]),
            helper.make_node("Cast", ["tags"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["numbers", "axis"], ["tag_sum"]),
            helper.make_node("Sum", ["amount", "looked_up", "tag_sum"], ["score"]),
        ]
        types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
        values = [
            helper.make_tensor_value_info(tensor.name, types[tensor.dtype], ["batch", *tensor.shape])
            for tensor in (*spec.inputs, *spec.outputs)
        ]
        constants = {"table": np.arange(0, 100, 10, dtype=np.float32), "axis": np.array([1])}
        weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
        graph = helper.make_graph(nodes, "tiny", values[:-1], values[-1:], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        model.metadata_props.add(key="model_spec", value=json.dumps(spec.to_dict()))
        onnx.save(model, str(path))
        return path

    return write


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, write_parquet: WriteParquet) -> Path:
    """A Wide & Deep network with two hidden layers of 8 and random weights: ``feature_spec.yaml``, ``checkpoint/``, and
    700 rows for it in ``rows.parquet``."""
    from widedeep.model.checkpoint import checkpoint_names, save_checkpoint
    from widedeep.model.network import build_network

    spec = FeatureSpec(
        numerical=(Feature("price", "float32"), Feature("ad_age", "float32")),
        onehot=(Feature("zone", "int32", 6), Feature("ad", "int32", 20)),
        multihot=(Feature("tags", "int32", 7, 3),),
        label=Feature("clicked", "int32"),
        group_id=Feature("display_id", "int32"),
    )
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "feature_spec.yaml").write_text(spec.to_yaml())
    write_parquet(folder / "rows.parquet", 700, spec=spec)
    network = build_network(spec, embedding_widths(spec), hidden_units=(8, 8))
    generator = np.random.default_rng(7)
    for variable in checkpoint_names(network).values():
        variable.assign(generator.normal(0, 0.3, variable.shape))
    save_checkpoint(network, folder / "checkpoint")
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_folder: Path) -> list[str]:
    """Options with which a script reads the network of ``tiny_folder``."""
    options = ["--input-path", str(ROOT / "model.py"), "--input-type", "tf-keras", "--precision", "fp32"]
    options += ["--feature-spec", str(tiny_folder / "feature_spec.yaml"), "--deep-hidden-units", "8", "8"]
    return [*options, "--checkpoint-dir", str(tiny_folder / "checkpoint")]


@pytest.fixture(scope="session")
def tiny_rows(tiny_folder: Path) -> list[str]:
    """Options with which a script reads the rows of ``tiny_folder``; the feature specification is among
    ``tiny_options``."""
    return ["--dataloader", str(ROOT / "dataloader.py"), "--data-pattern", str(tiny_folder / "rows.parquet")]


@pytest.fixture(scope="session")
def tiny_savedmodel(tiny_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network of ``tiny_folder``, exported."""
    from export_model import main

    path = tmp_path_factory.mktemp("exported") / "tiny.savedmodel"
    main([*tiny_options, "--output-path", str(path), "--output-type", "tf-savedmodel"])
    return path
