"""A small model for the C++ host, on OpenVINO, with rows and their right answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from deployment_toolkit.core import Batch, Format, Host, Prediction
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from tests.small_networks import ranking

MODEL = "ranker"
ROWS = 20


def write_model(folder: Path) -> tuple[Path, Path]:
    """A repository with the network ``ranking`` as an OpenVINO model in the C++ host, and a dump of right answers."""
    network = ranking()
    source = network.write(Format.OPENVINO, folder / "network")
    deployment = Deployment(MODEL, network.spec, Format.OPENVINO, host=Host.CPP, max_batch_size=64)
    repository, dump_dir = folder / "models", folder / "reference"
    add_model(repository, deployment, source)
    x = rows(ROWS)
    with DumpWriter(DumpOptions(dump_dir, dump_labels=True, dump_inputs=True)) as dump:
        labels = {"clicked": np.zeros((ROWS, 1), np.int32)}
        dump.write(Prediction(Batch(np.arange(ROWS), x, labels), {"score": scores(x)}))
    return repository, dump_dir


def rows(count: int) -> dict[str, Any]:
    """Rows for the model."""
    generator = np.random.default_rng(count)
    return {
        "amount": generator.normal(size=(count, 1)).astype(np.float32),
        "item": generator.integers(0, 10, (count, 1)),
        "numerical_features": generator.normal(size=(count, 2)).astype(np.float32),
        "tags": generator.integers(-1, 5, (count, 3)).astype(np.int32),
    }


def scores(x: dict[str, Any]) -> Any:
    """The model's right answers."""
    parts = [10 * x["item"], x["tags"], x["amount"], x["numerical_features"]]
    return np.concatenate(parts, axis=1).sum(axis=1, keepdims=True).astype(np.float32)


def json_request(x: dict[str, Any]) -> bytes:
    """An inference request of these rows, as JSON."""
    kinds = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}
    inputs = [
        {"name": name, "shape": array.shape, "datatype": kinds[str(array.dtype)], "data": array.tolist()}
        for name, array in x.items()
    ]
    return json.dumps({"inputs": inputs}).encode()
