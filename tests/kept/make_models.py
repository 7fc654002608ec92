"""Makes ``tensorflow_2_15.tar.xz``: checkpoints and models of an earlier environment, with rows and their answers.

Made at commit 0448dbc with TensorFlow 2.15.1, Keras 2.15.0, tf2onnx 1.17.0 and OpenVINO 2026.4.1, so that every later
environment is compared with that one:

    PYTHONPATH=. .venv/bin/python tests/kept/make_models.py tests/kept/tensorflow_2_15.tar.xz
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import export_model
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.library import registry
from deployment_toolkit.rows.sample import random_rows
from tests.widedeep.test_original_checkpoint import WIDTHS, originals_network, train_and_save
from widedeep.features.options import Combiner
from widedeep.features.spec import Feature, FeatureSpec
from widedeep.model.checkpoint import checkpoint_names, save_checkpoint
from widedeep.model.embedding_sizes import embedding_sizes_to_json
from widedeep.model.network import build_network

SPEC = FeatureSpec(
    numerical=(Feature("price", "float32"), Feature("ad_age", "float32")),
    onehot=(Feature("Zone", "int32", 6), Feature("ad", "int64", 30)),
    multihot=(Feature("tags", "int32", 7, 3), Feature("words", "int64", 90, 5)),
    label=Feature("clicked", "int32"),
    group_id=Feature("display_id", "int32"),
)
UNITS = (9, 7)
ROWS = 200


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "feature_spec.yaml").write_text(SPEC.to_yaml())
        widths = {name: WIDTHS[name] for name in SPEC.cardinalities}
        (folder / "sizes.json").write_text(embedding_sizes_to_json(widths))
        x: Any = random_rows(SPEC.model_spec, ROWS, seed=5)
        answers = {**_project(folder, widths, x), **_original(folder, x), **_keras(folder)}
        np.savez(folder / "rows.npz", **x)
        np.savez(folder / "answers.npz", **answers)
        with tarfile.open(target, "w:xz") as archive:
            for path in sorted(folder.iterdir()):
                archive.add(path, path.name)


def _project(folder: Path, widths: dict[str, int], x: Any) -> dict[str, Any]:
    """A checkpoint of this project, exported in two precisions and converted."""
    network = build_network(SPEC, widths, hidden_units=UNITS)
    generator = np.random.default_rng(7)
    for variable in checkpoint_names(network).values():
        variable.assign(generator.normal(0, 0.3, variable.shape))
    save_checkpoint(network, folder / "checkpoint")
    answers = {}
    for precision in ("fp32", "fp16"):
        path = folder / f"{precision}.savedmodel"
        options = ["--feature-spec", folder / "feature_spec.yaml", "--embedding-sizes", folder / "sizes.json"]
        options += ["--deep-hidden-units", *UNITS, "--checkpoint-dir", folder / "checkpoint", "--precision", precision]
        options += ["--input-path", ROOT / "model.py", "--input-type", "tf-keras"]
        export_model.main([str(part) for part in (*options, "--output-path", path, "--output-type", "tf-savedmodel")])
        answers[precision] = _answers(Format.TF_SAVEDMODEL, path, x)
    onnx, openvino = folder / "fp32.onnx", folder / "fp32.openvino"
    registry.converter(Format.TF_SAVEDMODEL, Format.ONNX)().convert(folder / "fp32.savedmodel", onnx)
    registry.converter(Format.ONNX, Format.OPENVINO)().convert(onnx, openvino)
    answers["onnx"] = _answers(Format.ONNX, onnx, x)
    answers["openvino"] = _answers(Format.OPENVINO, openvino, x)
    return answers


def _answers(model_format: Format, path: Path, x: Any) -> Any:
    with registry.loader(model_format)().load(path) as session:
        return session.infer(x)["wide_deep_model"]


def _original(folder: Path, x: Any) -> dict[str, Any]:
    """A checkpoint as the original's training writes it."""
    original = originals_network(SPEC, list(UNITS), Combiner.MEAN)
    train_and_save(original, dict(x), folder / "original_checkpoint")
    return {"original": original(dict(x), training=False).numpy()}


def _keras(folder: Path) -> dict[str, Any]:
    """A model that Keras 2 itself saved, with its optimizer."""
    tf.keras.utils.set_random_seed(3)
    inputs = {"a": tf.keras.Input((2,), name="a"), "b": tf.keras.Input((1,), name="b")}
    hidden = tf.keras.layers.Dense(3, activation="tanh")(tf.concat([inputs["a"], inputs["b"]], 1))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, name="score")(hidden))
    model.compile(tf.keras.optimizers.Adam(0.01), "mse")
    x = {"a": np.arange(8, dtype=np.float32).reshape(4, 2), "b": np.arange(4, dtype=np.float32).reshape(4, 1)}
    model.fit(x, np.ones((4, 1)), verbose=0)
    model.save(folder / "keras.savedmodel", save_format="tf")
    return {"keras": model(x).numpy(), **{f"keras_{name}": values for name, values in x.items()}}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
