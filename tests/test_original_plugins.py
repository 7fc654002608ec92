"""Modules of the original's contract and of this project's, alone and mixed, in every script that takes one."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import calculate_metrics
import check_correctness
import export_model
import run_inference_on_fw
import run_inference_on_triton
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import DataError, DeploymentError, ModelError, UsageError
from deployment_toolkit.library.tensorflow.session import SavedModelLoader
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main as navigator
from tests.original_plugins import CONTRACTS, OUTPUT, write_plugins
from widedeep.features.spec import load_feature_spec

FACTOR = ["--factor", "0.5"]
METRICS_OPTION = ["--output-used-for-metrics", OUTPUT]


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the modules of both contracts."""
    return write_plugins(tmp_path_factory.mktemp("plugins"))


@pytest.fixture(scope="module")
def rows(tiny_folder: Path) -> list[str]:
    """Options for the rows of ``tiny_folder``."""
    return ["--data-pattern", str(tiny_folder / "rows.parquet"), "--batch-size", "300"]


@pytest.fixture(scope="module")
def dumps(plugins: Path, rows: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Dumps by the contracts of the model and the dataloader that made them."""
    folder = tmp_path_factory.mktemp("dumps")
    for model in CONTRACTS:
        for dataloader in CONTRACTS:
            argv = ["--input-path", str(plugins / model / "model.py"), "--input-type", "tf-keras", *FACTOR, *rows]
            argv += ["--dataloader", str(plugins / dataloader / "dataloader.py"), "--dump-labels"]
            run_inference_on_fw.main([*argv, "--output-dir", str(folder / f"{model} {dataloader}")])
    return {tuple(path.name.split()): path for path in folder.iterdir()}  # type: ignore[misc]


def answers(dump: Path) -> Arrays:
    (prediction,) = Dump(dump).predictions()
    (label,) = prediction.batch.y.values()
    return {"ids": prediction.batch.ids, "label": label, **prediction.y_pred}


def test_contracts_mixed_give_equal_dumps(dumps: dict[tuple[str, str], Path]) -> None:
    wanted = answers(dumps["ours", "ours"])
    assert wanted[OUTPUT].shape == (700, 1)
    assert np.ptp(wanted[OUTPUT]) > 0.1
    assert len(dumps) == 4
    for dump in dumps.values():
        found = answers(dump)
        assert found.keys() == wanted.keys()
        np.testing.assert_allclose(found[OUTPUT], wanted[OUTPUT], rtol=1e-6)
        assert all(np.array_equal(found[name], wanted[name]) for name in ("ids", "label"))
    names = [next(iter(next(Dump(dumps["ours", one]).predictions()).batch.y)) for one in CONTRACTS]
    assert names == [OUTPUT, "clicked"]


@pytest.mark.parametrize("metrics", CONTRACTS)
def test_metrics_and_gate_take_dumps_of_both_contracts(
    metrics: str, plugins: Path, dumps: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    argv = ["--metrics", str(plugins / metrics / "metrics.py"), *METRICS_OPTION]
    found = []
    for number, dump in enumerate(dumps.values()):
        path = tmp_path / f"{number}.csv"
        calculate_metrics.main([*argv, "--dump-dir", str(dump), "--csv", str(path)])
        with path.open(newline="") as file:
            found += list(csv.DictReader(file))
    assert len(found) == 4
    assert found[0].keys() == {"clicked_score", "ads"}
    assert all(row == found[0] for row in found)
    assert float(found[0]["ads"]) == 5

    for reference in CONTRACTS:
        gate = [*argv, "--reference-dump-dir", str(dumps["ours", reference]), "--csv", str(tmp_path / "gate.csv")]
        gate += [part for dump in dumps.values() for part in ("--dump-dir", str(dump))]
        check_correctness.main([*gate, "--max-metric-loss", "clicked_score=0", "--atol", "0"])


def test_output_that_is_not_there_is_named(plugins: Path, dumps: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    argv = ["--metrics", str(plugins / "original" / "metrics.py"), "--csv", str(tmp_path / "metrics.csv")]
    text = Path(argv[1]).read_text().replace("        self.scores.append(y_pred[self.output])\n", "")
    (tmp_path / "labels_first.py").write_text(text)
    for path in (argv[1], tmp_path / "labels_first.py"):
        command = ["--metrics", str(path), *argv[2:], "--dump-dir", str(dumps["ours", "ours"])]
        with pytest.raises(UsageError, match=r"output nope: there is no such output, there are \['wide_deep_model'\]"):
            calculate_metrics.main([*command, "--output-used-for-metrics", "nope"])


def test_model_of_the_original_is_exported_and_converted(plugins: Path, rows: list[str], tmp_path: Path) -> None:
    dataloader = ["--dataloader", str(plugins / "original" / "dataloader.py"), *rows]
    argv = ["--input-path", str(plugins / "original" / "model.py"), "--input-type", "tf-keras", *FACTOR]
    saved = tmp_path / "model.savedmodel"
    export_model.main([*argv, *dataloader, "--output-path", str(saved), "--output-type", "tf-savedmodel"])
    spec = SavedModelLoader().read_spec(saved)
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in spec.inputs] == [
        ("ad", "int32", (1,)),
        ("ad_age", "float32", (1,)),
        ("price", "float32", (1,)),
        ("tags", "int32", (3,)),
        ("zone", "int32", (1,)),
    ]
    assert [tensor.name for tensor in spec.outputs] == [OUTPUT]
    target = tmp_path / "model.onnx"
    convert = ["convert", "-n", "tiny", "-p", str(saved), "-o", str(target), "--target-formats", "onnx", *dataloader]
    navigator([*convert, "--workspace-path", str(tmp_path / "workspace")])
    assert target.is_file()


SERVED_ROWS = """
import numpy as np

def get_dataloader_fn(rows: int, signed: bool = False):
    def batches():
        for start in range(0, rows, 10):
            ids = list(range(start, start + 10))
            x1 = np.array(ids, np.float32)[:, None] * (-1 if signed else 1)
            yield ids, {"x1": x1, "x2": np.zeros((10, 3), np.int32)}, None
    return batches
"""


@pytest.mark.parametrize(("option", "sign"), [([], 1), (["--signed", "0"], 1), (["--signed", "True"], -1)])
def test_served_model_is_asked_with_a_dataloader_of_the_original(
    adder_server: TritonServer, tmp_path: Path, option: list[str], sign: int
) -> None:
    (tmp_path / "loader.py").write_text(SERVED_ROWS)
    argv = ["--server-url", adder_server.grpc_url, "--model-name", "adder", "--model-version", "1"]
    argv += ["--dataloader", str(tmp_path / "loader.py"), "--rows", "40", *option]
    run_inference_on_triton.main([*argv, "--output-dir", str(tmp_path / "dump")])
    (prediction,) = Dump(tmp_path / "dump").predictions()
    assert prediction.batch.ids.tolist() == list(range(40))
    assert prediction.y_pred["y"][:, 0].tolist() == [sign * row for row in range(40)]


TWO_INPUTS = """
import tensorflow as tf

def get_model(*, kind: str):
    a, b = (tf.keras.Input((1,), name=name) for name in ("second", "first"))
    inputs = [a, b] if kind.startswith("list") else {"second": a, "first": b}
    model = tf.keras.Model(inputs, 10 * a + b)
    return model, {CALL_FNS}[kind]
"""
CALL_FNS = {
    "list tensors": "lambda *x: model(list(x))",
    "list named": "lambda second, first: model([second, first])",
    "list all": "lambda x: model(x)",
    "list model": "model",
    "list function": "tf.function(lambda *x: model(list(x)))",
    "list signature": "tf.function(lambda x, y: model([x, y]), input_signature=[tf.TensorSpec([None, 1])] * 2)",
    "list wrapped": "lambda *x, **options: model(list(x), **options)",
    "dict all": "lambda x: 10 * x['second'] + x['first']",
    "dict tensors": "lambda *x: model(list(x))",
    "dict named": "lambda second, first: 10 * second + first",
    "dict model": "model",
    "dict function": "tf.function(lambda x: model(x))",
    "dict wrapped": "lambda *x, **options: model(*x, **options)",
}


@pytest.mark.parametrize("kind", CALL_FNS)
def test_call_fn_gets_the_inputs_as_it_takes_them(kind: str, tmp_path: Path) -> None:
    from deployment_toolkit.library.tensorflow.session import KerasLoader

    (tmp_path / "model.py").write_text(TWO_INPUTS.replace("{CALL_FNS}[kind]", CALL_FNS[kind]))
    session = KerasLoader(kind=kind).load(tmp_path / "model.py")
    x = {"second": np.array([[2], [3]], np.float32), "first": np.array([[7], [8]], np.float32)}
    (answer,) = session.infer(x).values()
    assert answer.tolist() == [[27], [38]]


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("model", "get_model of .*model.py returned a Functional: \\(model, call_fn\\) is wanted"),
        ("object(), print", "returned a object without inputs, of which neither contract knows the names"),
        ("tf.keras.Sequential([tf.keras.layers.Dense(1)]), print", "returned a Sequential without inputs"),
        (
            "model, lambda a, b, c: a",
            r"follows the original's contract \(a list of inputs\): its call_fn takes 3 tensors",
        ),
        ("model, lambda *x: x[:1] * 3", "returned 3 tensors, the model's outputs are"),
    ],
)
def test_model_of_neither_contract_is_reported(made: str, message: str, tmp_path: Path) -> None:
    text = TWO_INPUTS.replace("model, {CALL_FNS}[kind]", made)
    (tmp_path / "model.py").write_text(text)
    argv = ["--input-path", str(tmp_path / "model.py"), "--input-type", "tf-keras", "--kind", "list"]
    with pytest.raises(ModelError, match=message):
        export_model.main([*argv, "--output-path", str(tmp_path / "saved"), "--output-type", "tf-savedmodel"])


PLAIN_MODULE = """
import tensorflow as tf

class Weighted(tf.Module):
    def __init__(self):
        super().__init__()
        self.weight = tf.Variable(10.0)
        self.inputs = {INPUTS}
        self.output_names = ["score"]

    def __call__(self, x):
        assert list(x) == ["first", "second"]
        return self.weight * x["second"] + tf.cast(tf.reduce_sum(x["first"], 1, keepdims=True), tf.float32)

def get_model():
    model = Weighted()
    return model, {CALL_FN}
"""
PLAIN_INPUTS = "{'second': tf.TensorSpec((None, 1)), 'first': tf.TensorSpec((None, 2), tf.int64)}"


@pytest.mark.parametrize("call_fn", ["model", "lambda x: {'score': model(x)}", "tf.function(model)"])
def test_module_without_keras_that_states_its_inputs_is_exported(call_fn: str, tmp_path: Path) -> None:
    from deployment_toolkit.library.tensorflow.session import SavedModelSession

    (tmp_path / "model.py").write_text(PLAIN_MODULE.replace("{INPUTS}", PLAIN_INPUTS).replace("{CALL_FN}", call_fn))
    argv = ["--input-path", str(tmp_path / "model.py"), "--input-type", "tf-keras"]
    export_model.main([*argv, "--output-path", str(tmp_path / "saved"), "--output-type", "tf-savedmodel"])
    session = SavedModelSession(tmp_path / "saved")
    x: dict[str, Any] = {"second": np.array([[2], [3]], np.float32), "first": np.array([[7, 1], [8, 2]], np.int64)}
    assert [(one.name, one.dtype, one.shape) for one in session.spec.inputs] == [
        ("first", "int64", (2,)),
        ("second", "float32", (1,)),
    ]
    assert {name: answer.tolist() for name, answer in session.infer(x).items()} == {"score": [[28], [40]]}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ("{}", "returned a Weighted without inputs"),
        ("['first', 'second']", "returned a Weighted without inputs"),
        ("{'first': 2}", r"input first is 2: write tf.TensorSpec\(\(None, …\), dtype\), None for the rows of a batch"),
        ("{'first': tf.TensorSpec((5, 2))}", "input first is TensorSpec"),
    ],
)
def test_module_without_keras_that_states_no_usable_inputs_is_refused(
    inputs: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.py").write_text(PLAIN_MODULE.replace("{INPUTS}", inputs).replace("{CALL_FN}", "model"))
    argv = ["--input-path", str(tmp_path / "model.py"), "--input-type", "tf-keras"]
    with pytest.raises(ModelError, match=message):
        export_model.main([*argv, "--output-path", str(tmp_path / "saved"), "--output-type", "tf-savedmodel"])


METRICS_HEAD = "from triton.deployment_toolkit.core import BaseMetricsCalculator\n"
OLD = "class MetricsCalculator(BaseMetricsCalculator):\n    def calc(self, *, ids, y_pred, x, y_real): ..."


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            METRICS_HEAD + OLD,
            ModelError,
            "follows the contract the original's .* and lacks update and metrics, it has calc",
        ),
        (
            "class MetricsCalculator:\n    metrics = {}",
            ModelError,
            "follows the contract this project's and lacks update",
        ),
        (
            "from triton.deployment_toolkit.core import NoName",
            ModelError,
            "cannot import name 'NoName'.* put the folder",
        ),
        ("import triton.no_module", ModelError, "No module named 'triton.no_module'; of the original's contract"),
        ("import trainer.model", ModelError, "the original's modules import trainer from the folder above theirs"),
    ],
)
def test_metrics_that_cannot_work_say_why(
    text: str, error: type[DeploymentError], message: str, dumps: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    (tmp_path / "metrics.py").write_text(text)
    argv = ["--metrics", str(tmp_path / "metrics.py"), "--dump-dir", str(dumps["ours", "ours"])]
    with pytest.raises(error, match=message):
        calculate_metrics.main([*argv, "--csv", str(tmp_path / "metrics.csv")])
    assert not (tmp_path / "metrics.csv").exists()


READER = """
class MetricsCalculator:
    lower_is_better = ()
    def update(self, ids, y_pred, x, y_real):
        {read}
    metrics = {metrics}
"""


@pytest.mark.parametrize(
    ("read", "metrics", "error", "message"),
    [
        ("y_pred['no']", "{}", UsageError, "metrics read the output no: .* there are \\['wide_deep_model'\\]"),
        ("x['zone']", "{}", DataError, "the metrics need the input zone: make the dump with --dump-inputs"),
        (
            "y_real['clicked']",
            "{}",
            DataError,
            "label clicked: the dump's labels .* have the names of outputs, as the o",
        ),
        ("pass", "{'a': 'many'}", ModelError, "gives {'a': 'many'}: a dict of numbers is wanted"),
    ],
)
def test_what_a_dump_lacks_is_one_line(
    read: str,
    metrics: str,
    error: type[DeploymentError],
    message: str,
    dumps: dict[tuple[str, str], Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "metrics.py").write_text(READER.format(read=read, metrics=metrics))
    argv = ["--metrics", str(tmp_path / "metrics.py"), "--dump-dir", str(dumps["ours", "original"])]
    with pytest.raises(error, match=message):
        calculate_metrics.main([*argv, "--csv", str(tmp_path / "metrics.csv")])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ("[1]", "yields a int: \\(ids, x, y\\) is wanted"),
        ("[([1], [2], {})]", "yields a list of 1 as x: {name: array} is wanted"),
        ("None", "returned None: a function is wanted that yields"),
    ],
)
def test_dataloader_of_neither_contract_is_reported(
    batches: str, message: str, adder_server: TritonServer, tmp_path: Path
) -> None:
    made = batches if batches == "None" else f"lambda: iter({batches})"
    (tmp_path / "loader.py").write_text(f"def get_dataloader_fn():\n    return {made}")
    argv = ["--server-url", adder_server.grpc_url, "--model-name", "adder", "--dataloader", str(tmp_path / "loader.py")]
    with pytest.raises(ModelError, match=message):
        run_inference_on_triton.main([*argv, "--output-dir", str(tmp_path / "dump")])


def test_wrong_data_of_the_original_dataloader_is_one_line(plugins: Path, tiny_folder: Path, tmp_path: Path) -> None:
    argv = ["--input-path", str(plugins / "ours" / "model.py"), "--input-type", "tf-keras", *FACTOR]
    argv += ["--dataloader", str(plugins / "original" / "dataloader.py"), "--output-dir", str(tmp_path / "dump")]
    with pytest.raises(DataError, match=r"get_dataloader_fn of .*: Expected at least one file"):
        run_inference_on_fw.main([*argv, "--batch-size", "10", "--data-pattern", str(tmp_path / "*.parquet")])


def test_wrong_value_is_named_by_the_original_dataloader(
    plugins: Path, tiny_folder: Path, tmp_path: Path, write_parquet: Callable[..., Path]
) -> None:
    shutil.copy(tiny_folder / "feature_spec.yaml", tmp_path)
    zone = np.ones(700, np.int32)
    zone[600] = 77
    write_parquet(tmp_path / "bad.parquet", 700, spec=load_feature_spec(tmp_path / "feature_spec.yaml"), zone=zone)
    argv = ["--input-path", str(plugins / "ours" / "model.py"), "--input-type", "tf-keras", *FACTOR]
    argv += ["--dataloader", str(plugins / "original" / "dataloader.py"), "--output-dir", str(tmp_path / "dump")]
    with pytest.raises(DataError, match=r"bad\.parquet: column zone, row 600 holds 77, outside 0 \.\. 5") as raised:
        run_inference_on_fw.main([*argv, "--batch-size", "10", "--data-pattern", str(tmp_path / "*.parquet")])
    assert "\n" not in str(raised.value)


PLACES = ("named triton", "beside", "beside another triton")


@pytest.mark.parametrize("place", PLACES)
def test_modules_of_the_original_import_each_other_in_every_place(
    place: str, plugins: Path, dumps: dict[tuple[str, str], Path], tmp_path: Path
) -> None:
    """The checkout's folder is named ``triton``, or the modules are in another folder, without the name ``triton`` or
    with a package of that name for another purpose."""
    above = tmp_path / "above"
    above.mkdir()
    script = ROOT / "calculate_metrics.py"
    if place == "named triton":
        (above / "triton").symlink_to(ROOT)
        script = above / "triton" / "calculate_metrics.py"
    elif place == "beside another triton":
        (above / "triton").mkdir()
        (above / "triton" / "__init__.py").write_text("compiler = 1")
    known = "from triton import compiler\n" if place == "beside another triton" else ""
    text = (plugins / "original" / "metrics.py").read_text() + known
    text += "from triton.tf_dataloader import eval_input_fn\n"
    text += "from triton.deployment_toolkit import errors\nimport deployment_toolkit.errors\n"
    text += "assert errors is deployment_toolkit.errors and errors.__spec__.name == 'deployment_toolkit.errors'\n"
    (tmp_path / "metrics.py").write_text(text)
    argv: list[str | Path] = [sys.executable, script, "--metrics", tmp_path / "metrics.py", *METRICS_OPTION]
    argv += ["--dump-dir", dumps["ours", "ours"], "--csv", tmp_path / "metrics.csv"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {} if place == "beside" else {"PYTHONPATH": str(above)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "metrics.csv").read_text().startswith("clicked_score,ads")
