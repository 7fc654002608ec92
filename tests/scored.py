"""A small data set whose right scores are known, a model for it, and what a complete folder of scores has to hold."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Array, ModelSpec, TensorSpec
from deployment_toolkit.process import Child, environment
from widedeep.data.random_parquet import write_random_parquet
from widedeep.features.spec import Feature, FeatureSpec

SPEC = FeatureSpec(
    numerical=(Feature("x1", "float32"),),
    onehot=(),
    multihot=(Feature("x2", "int32", 600, 3),),
    label=Feature("clicked", "int32"),
    group_id=Feature("display_id", "int32"),
)
# A dataloader that waits before every batch, so that processes can be killed meanwhile.
SLOW_DATALOADER = """
import time
from deployment_toolkit.rows.batches import BatchStream
from widedeep.data.dataset_folder import DatasetFolder
from widedeep.data.parquet import ParquetDataset

class Slow(ParquetDataset):
    delay_s = 0.0

    def slice(self, *args):
        for item in super().slice(*args):
            time.sleep(self.delay_s)
            yield item

def get_dataloader_fn(*, data_pattern: str, batch_size: int = 64, delay_s: float = 0.0):
    dataset = Slow(data_pattern, DatasetFolder.of_pattern(data_pattern).spec(None))
    dataset.delay_s = delay_s
    return BatchStream(dataset, batch_size)
"""


@dataclass(frozen=True)
class SmallData:
    """``files`` of rows whose score is ``x1`` plus the sum of ``x2``, a list of ids padded with -1 to 3; an ONNX model
    that computes it; the slow dataloader."""

    folder: Path
    files: tuple[Path, ...]

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def pattern(self) -> str:
        return str(self.folder / "data" / "*.parquet")

    def options(self, *, engine: bool = True, delay_s: float = 0.0) -> list[str]:
        """Options of data and model; parts of at most 250 rows."""
        options = ["--dataloader", str(self.folder / "slow.py"), "--data-pattern", self.pattern]
        options += ["--rows-per-part", "250", "--delay-s", str(delay_s)]
        return [*options, "--input-path", str(self.model), "--input-type", "onnx"] if engine else options

    def scores(self) -> Array:
        """The right score of each row, in order."""
        tables = [pq.read_table(path) for path in self.files]
        x1 = np.concatenate([table["x1"].to_numpy() for table in tables])
        x2 = [row for table in tables for row in table["x2"].to_pylist()]
        return x1 + np.array([sum(row) - (3 - len(row)) for row in x2], np.float32)


def make_small_data(folder: Path, *, files: int = 3, rows: int = 2000) -> SmallData:
    """Writes the files, each of ``rows`` rows in row groups of 250, and the model."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "feature_spec.yaml").write_text(SPEC.to_yaml())
    paths = tuple(data / f"rows-{number}.parquet" for number in range(files))
    for seed, path in enumerate(paths):
        write_random_parquet(path, rows, spec=SPEC, seed=seed, row_group_rows=250)
    (folder / "slow.py").write_text(SLOW_DATALOADER)
    _write_model(folder / "model.onnx")
    return SmallData(folder, paths)


def command(data: SmallData, output: Path, *options: str, engine: bool = True, delay_s: float = 0.0) -> list[str]:
    """Command line of ``score_dataset.py`` for the data."""
    script = [sys.executable, str(ROOT / "score_dataset.py"), *data.options(engine=engine, delay_s=delay_s)]
    return [*script, "--output-dir", str(output), *options]


def start(argv: list[str], log: Path) -> Child:
    """Starts a command of this checkout."""
    return Child(argv, env=environment(None, prepend={"PYTHONPATH": [ROOT]}), stdout=log, stderr=log)


def parts_of(output: Path) -> list[Path]:
    """Parts that are there."""
    return sorted(output.glob("part-*.parquet"))


def assert_complete(data: SmallData, output: Path, *, most_parts: int = 24) -> None:
    """Every row is there once, in order and with its score, and nothing else is in the folder."""
    parts = parts_of(output)
    assert len(parts) == len(json.loads((output / "_plan.json").read_text())["parts"]) == most_parts
    names = {path.name for path in output.iterdir()}
    assert names == {"_SUCCESS", "_plan.json", *(path.name for path in parts)}
    tables = [pq.read_table(path) for path in parts]
    rows = np.concatenate([table["row"].to_numpy() for table in tables])
    wanted = data.scores()
    np.testing.assert_array_equal(rows, np.arange(len(wanted)))
    scores = np.concatenate([table["y"].to_numpy() for table in tables])
    np.testing.assert_allclose(scores, wanted, rtol=1e-6)


def _write_model(path: Path) -> None:
    spec = ModelSpec(
        (TensorSpec("x1", "float32", (1,)), TensorSpec("x2", "int32", (3,), (-1, 599))),
        (TensorSpec("y", "float32", (1,)),),
    )
    nodes = [
        helper.make_node("Cast", ["x2"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["sum"]),
        helper.make_node("Add", ["x1", "sum"], ["y"]),
    ]
    types = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32}
    values = [
        helper.make_tensor_value_info(tensor.name, types[tensor.dtype], ["batch", *tensor.shape])
        for tensor in (*spec.inputs, *spec.outputs)
    ]
    axis = numpy_helper.from_array(np.array([1]), "axis")
    graph = helper.make_graph(nodes, "sum", values[:-1], values[-1:], [axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model.metadata_props.add(key="model_spec", value=json.dumps(spec.to_dict()))
    onnx.save(model, str(path))
