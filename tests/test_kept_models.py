"""Checkpoints and models of an earlier environment, which ``kept/make_models.py`` made there, answer the same here."""

from __future__ import annotations

import os
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, Format, ModelModule
from deployment_toolkit.library import registry
from deployment_toolkit.options.plugins import load_module
from deployment_toolkit.process import run
from widedeep.features.options import Combiner

KEPT = ROOT / "tests" / "kept" / "tensorflow_2_15.tar.xz"
# A unit or two in the last place of a probability. TensorFlow's kernels in fp16 round in another place since.
ATOL = {"fp32": 1.2e-7, "original": 1.2e-7, "onnx": 1.2e-7, "openvino": 1.2e-7, "fp16": 1e-3}
MODELS = {
    "fp32": (Format.TF_SAVEDMODEL, "fp32.savedmodel"),
    "fp16": (Format.TF_SAVEDMODEL, "fp16.savedmodel"),
    "onnx": (Format.ONNX, "fp32.onnx"),
    "openvino": (Format.OPENVINO, "fp32.openvino"),
}
WITHOUT_KERAS = """
import sys
from pathlib import Path
import numpy as np
from deployment_toolkit.core import Format
from deployment_toolkit.library import registry
path, x, target = sys.argv[1:]
with registry.loader(Format.TF_SAVEDMODEL)().load(Path(path)) as session:
    np.savez(target, **session.infer(dict(np.load(x))))
assert not [name for name in sys.modules if name.split(".")[0] in ("keras", "tf_keras", "pandas", "matplotlib")]
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return folder


def arrays(path: Path) -> Arrays:
    with np.load(path) as stored:
        return dict(stored)


def network_answers(kept: Path, **options: Any) -> Any:
    module = load_module(ROOT / "model.py", ModelModule)
    files = {"feature_spec": kept / "feature_spec.yaml", "embedding_sizes": kept / "sizes.json"}
    _, call_fn = module.get_model(**files, deep_hidden_units=[9, 7], **options)
    return call_fn(arrays(kept / "rows.npz")).numpy()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fp32", {"checkpoint_dir": "checkpoint", "precision": "fp32"}),
        ("fp16", {"checkpoint_dir": "checkpoint", "precision": "fp16"}),
        ("original", {"checkpoint_dir": "original_checkpoint", "precision": "fp32", "combiner": Combiner.MEAN}),
    ],
)
def test_kept_checkpoint_gives_the_answers_of_its_time(kept: Path, name: str, options: dict[str, Any]) -> None:
    wanted = arrays(kept / "answers.npz")[name]
    answers = network_answers(kept, **(options | {"checkpoint_dir": kept / options["checkpoint_dir"]}))
    assert np.ptp(wanted) > 0.3
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=ATOL[name])


@pytest.mark.parametrize("name", MODELS)
def test_kept_model_gives_the_answers_of_its_time(kept: Path, name: str) -> None:
    model_format, file = MODELS[name]
    with registry.loader(model_format)().load(kept / file) as session:
        (answers,) = session.infer(arrays(kept / "rows.npz")).values()
    np.testing.assert_allclose(answers, arrays(kept / "answers.npz")[name], rtol=0, atol=ATOL[name])


def test_signature_of_a_savedmodel_is_read_without_tensorflow(kept: Path, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from deployment_toolkit.core import Format; "
    program += "from deployment_toolkit.library.registry import read_spec; "
    program += "spec = read_spec(Format.TF_SAVEDMODEL, Path(sys.argv[1])); assert 'tensorflow' not in sys.modules; "
    program += "print(*sorted(spec.value_ranges.items()))"
    argv: list[str | Path] = [sys.executable, "-c", program, kept / "fp32.savedmodel"]
    done = run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout_s=60, log_path=tmp_path / "log")
    assert done.stdout.strip() == "('Zone', (0, 5)) ('ad', (0, 29)) ('tags', (-1, 6)) ('words', (-1, 89))"


def test_model_that_keras_saved_answers_without_keras(kept: Path, tmp_path: Path) -> None:
    stored = arrays(kept / "answers.npz")
    np.savez(tmp_path / "x.npz", a=stored["keras_a"], b=stored["keras_b"])
    argv: list[str | Path] = [
        sys.executable,
        "-c",
        WITHOUT_KERAS,
        kept / "keras.savedmodel",
        tmp_path / "x.npz",
        tmp_path / "y.npz",
    ]
    run(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout_s=120, log_path=tmp_path / "log")
    (answers,) = arrays(tmp_path / "y.npz").values()
    np.testing.assert_allclose(answers, stored["keras"], rtol=1e-6)
