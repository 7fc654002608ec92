"""Formats that the Python host takes, in each batching mode, on the real server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import Array, Arrays, Batch, Batching, Format, Host
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import InferenceError
from deployment_toolkit.library.registry import converter, loader
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.rows.sample import random_rows
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

CASES = [
    (Format.OPENVINO, Batching.DISABLED),
    (Format.OPENVINO, Batching.STATIC),
    (Format.OPENVINO, Batching.DYNAMIC),
    (Format.TF_SAVEDMODEL, Batching.DISABLED),
    (Format.TF_SAVEDMODEL, Batching.STATIC),
    (Format.TF_SAVEDMODEL, Batching.DYNAMIC),
    (Format.ONNX, Batching.DYNAMIC),  # its others: triton_server/test_model_config.py
]


@pytest.fixture(scope="module")
def server(tiny_savedmodel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    folder = tmp_path_factory.mktemp("formats")
    sources = {
        Format.TF_SAVEDMODEL: tiny_savedmodel,
        Format.ONNX: folder / "tiny.onnx",
        Format.OPENVINO: folder / "tiny.openvino",
    }
    converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(tiny_savedmodel, sources[Format.ONNX])
    converter(Format.ONNX, Format.OPENVINO)().convert(sources[Format.ONNX], sources[Format.OPENVINO])
    for model_format, batching in CASES:
        deployment = Deployment(
            f"{model_format}_{batching}",
            loader(model_format)().read_spec(sources[model_format]),
            model_format,
            host=Host.PYTHON,
            batching=batching,
            max_batch_size=64,
            backend_parameters={"threads": "1"},
        )
        add_model(folder / "repository", deployment, sources[model_format])
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        with ThreadPoolExecutor(2) as pool:  # TensorFlow is slow to start
            names = [f"{model_format}_{batching}" for model_format, batching in CASES]
            list(pool.map(lambda name: running.load_model(name, timeout_s=120), names))
        yield running


def served(server: TritonServer, name: str, batches: list[Arrays]) -> list[Array]:
    options = {"synchronous": False, "max_unresponded_requests": 32, "response_wait_time_s": 60}
    with open_session(server.grpc_url, name, "1", **options) as session:  # type: ignore[arg-type]
        asked = (Batch(np.arange(len(next(iter(x.values())))), x) for x in batches)
        return [prediction.y_pred["wide_deep_model"] for prediction in session.predict(asked)]


@pytest.mark.parametrize(("model_format", "batching"), CASES)
def test_python_host_answers_like_the_savedmodel(
    model_format: Format, batching: Batching, server: TritonServer, tiny_savedmodel: Path
) -> None:
    reference = SavedModelLoader().load(tiny_savedmodel)
    batches = [random_rows(reference.spec, rows, seed=rows) for rows in (1, 2, 64, 7, 33)]
    for x in batches:
        x["tags"][0] = -1
    name = f"{model_format}_{batching}"
    for x, answer in zip(batches, served(server, name, batches), strict=True):
        np.testing.assert_allclose(answer, reference.infer(x)["wide_deep_model"], rtol=0, atol=1e-5)
    dynamic = server.model_config(name).get("dynamic_batching")
    assert (dynamic is not None) == (batching is Batching.DYNAMIC)


@pytest.mark.parametrize("model_format", [Format.OPENVINO, Format.TF_SAVEDMODEL])
def test_id_outside_its_table_is_refused(model_format: Format, server: TritonServer, tiny_savedmodel: Path) -> None:
    """Without the check OpenVINO answers such an id with other memory content."""
    x = random_rows(SavedModelLoader().read_spec(tiny_savedmodel), 3, seed=1)
    x["ad"][1] = 20
    with pytest.raises(InferenceError, match=r"input ad holds id 20, outside 0 \.\. 19 \(cardinality 20\)"):
        served(server, f"{model_format}_{Batching.STATIC}", [x])
