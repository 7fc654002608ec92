"""Data sets other than Outbrain, with the commands of docs/bring-your-own-data.md as printed, on one real server. The
commands are the same for every data set; only the folder with the descriptions differs."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import itertools
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pyarrow as pa
import pytest
import yaml

from dataloader import get_dataloader_fn
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from widedeep.data.parquet import ParquetDataset
from widedeep.features.spec import FeatureSpec, load_feature_spec
from widedeep.model.checkpoint import save_checkpoint
from widedeep.model.embedding_sizes import load_embedding_sizes
from widedeep.model.network import build_network
from widedeep.model.network_description import NetworkDescription, load_network_description

WriteParquet = Callable[..., Path]
PAGE = (ROOT / "docs" / "bring-your-own-data.md").read_text()
SPEC, SIZES = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
TRAIN, EXPORT, SERVE, DEPLOY, ORIGINAL = re.findall(r"^```bash\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
MESSAGES = re.findall(r"^(datasets/shop/\S+: .*)$", PAGE, flags=re.MULTILINE)
PROGRAMS = {"scripts/train.sh": "widedeep.training", "model-navigator": "navigator.__main__"}
QUICK = ["--retries", "0", "--measurement-mode", "time_windows", "--measurement-interval", "300"]
MORE = {  # another label, no group id, wide types everywhere, more lists, a long one and one of one id
    "feature_spec": {
        "clicks_embedding": {"dtype": "float64"},
        "clicks": {"cardinality": 9, "dtype": "int64"},
        "words": {"cardinality": 300, "max_hotness": 10, "dtype": "int64"},
        "more_words": {"cardinality": 30, "max_hotness": 1},
        "even_more_words": {"cardinality": 3, "max_hotness": 2, "dtype": "int64"},
        "Seen2": {"dtype": "int32"},
        "liked": {"dtype": "float64"},
        "unused": {},
    },
    "channel_spec": {
        "numerical": ["clicks_embedding", "Seen2"],
        "onehot_categorical": ["clicks"],
        "multihot_categorical": ["words", "more_words", "even_more_words"],
        "label": ["liked"],
        "map": [],
    },
}
LESS = {  # two channels are empty; a group id of 32 bits
    "feature_spec": {
        "words": {"cardinality": 30, "max_hotness": 2},
        "liked": {"dtype": "int64"},
        "user": {"dtype": "int32"},
    },
    "channel_spec": {"multihot_categorical": ["words"], "label": ["liked"], "map": ["user"]},
}
CHANNELS = ("numerical", "onehot_categorical", "multihot_categorical")
SETS = {"page": (SPEC, SIZES), "more": (yaml.safe_dump(MORE), ""), "less": (yaml.safe_dump(LESS), "words: 3")}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("byo") / "model_store"


@pytest.fixture(scope="module")
def server(store: Path) -> Iterator[TritonServer]:
    store.mkdir()
    with local_server(store, log_path=store.with_name("server.log")) as running:
        yield running


def _cut(channels: tuple[str, ...]) -> str:
    """The page's specification with these input channels only."""
    plain = yaml.safe_load(SPEC)
    plain["channel_spec"] |= {channel: [] for channel in CHANNELS if channel not in channels}
    return yaml.safe_dump(plain)


@pytest.fixture(params=SETS)
def shop(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: Path,
    write_parquet: WriteParquet,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A working folder with this checkout's plug-ins and the data set ``datasets/shop``."""
    for name in ("model.py", "dataloader.py", "metrics.py"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "model_store").symlink_to(store)
    folder = tmp_path / "datasets" / "shop"
    folder.mkdir(parents=True)
    spec_text, sizes_text = SETS[request.param] if isinstance(request.param, str) else (_cut(request.param), "")
    (folder / "feature_spec.yaml").write_text(spec_text)
    (folder / "embedding_sizes.yaml").write_text(sizes_text)
    spec = load_feature_spec(folder / "feature_spec.yaml")
    write_parquet(folder / "train" / "part.parquet", 1500, spec=spec.for_training)  # without group ids
    write_parquet(folder / "valid" / "part.parquet", 600, seed=1, spec=spec)
    monkeypatch.chdir(tmp_path)
    return folder


def run_block(block: str, name: str, server: TritonServer | None = None) -> None:
    """Runs each command by its entry point, in this process. Models of different data sets get different names."""
    for line in filter(None, block.replace("\\\n", " ").splitlines()):
        program, *argv = (name if part == "shop" else part for part in shlex.split(line))
        if program == "python":
            program = argv.pop(0)
        if server is not None and program in ("run_inference_on_triton.py", "model-navigator"):
            argv += ["--server-url", server.grpc_url]
        if server is not None and program == "run_performance_on_triton.py":
            argv += ["--server-url", server.http_url, *QUICK]
        module = importlib.import_module(PROGRAMS.get(program, program.removesuffix(".py")))
        assert not module.main(argv), line


def test_own_data_go_from_parquet_to_a_served_model(
    shop: Path, server: TritonServer, request: pytest.FixtureRequest
) -> None:
    spec = load_feature_spec(shop / "feature_spec.yaml")
    name = f"shop_{request.node.callspec.id}"
    assert SERVE.split() == ["python", "-m", "deployment_toolkit.triton_server", "--model-repository", "model_store"]
    run_block(TRAIN, name)
    described = load_network_description(Path("runner_workspace/checkpoints/shop/checkpoint/network.yaml"))
    assert described.spec == dataclasses.replace(spec, files={})
    assert (described.hidden_units, str(described.combiner)) == ((64, 32), "mean")
    assert described.embedding_widths == load_embedding_sizes(shop / "embedding_sizes.yaml", spec)

    run_block(EXPORT, name)
    run_block(DEPLOY, name, server)
    assert [row["passed"] for row in _table("correctness.csv")] == ["True", "True"]
    (metrics,) = _table("metrics.csv")
    assert (metrics["map12"] == "nan") == (spec.group_id is None)
    assert 0 < float(metrics["roc_auc"]) < 1
    (row,) = read_performance(Path("shared/triton_performance_offline.csv"))
    assert (row["Batch"], row["Inferences/Second"] > 0) == (64, True)
    inputs = {tensor["name"]: tensor["datatype"] for tensor in _metadata(server, name)["inputs"]}
    types = {"int32": "INT32", "int64": "INT64", "float32": "FP32", "float64": "FP64"}
    assert inputs == {feature.name: types[feature.dtype] for feature in spec.inputs}

    run_block(ORIGINAL, name)  # the same network, said on the command line instead of by the checkpoint's folder
    Path("runner_workspace/checkpoints/shop/checkpoint/network.yaml").unlink()
    run_block(ORIGINAL, name)


@pytest.mark.parametrize(
    "shop", [(a,) for a in CHANNELS] + list(itertools.combinations(CHANNELS, 2)), ids="-".join, indirect=True
)
def test_input_channels_may_be_empty(shop: Path, server: TritonServer, request: pytest.FixtureRequest) -> None:
    name = f"shop_{request.node.callspec.id}"
    spec = load_feature_spec(shop / "feature_spec.yaml")
    description = NetworkDescription(spec, load_embedding_sizes(None, spec), (4,))
    network = build_network(spec, description.embedding_widths, hidden_units=description.hidden_units)
    checkpoint = Path("runner_workspace/checkpoints/shop/checkpoint")
    save_checkpoint(network, checkpoint)
    (checkpoint / "network.yaml").write_text(description.to_yaml())
    run_block(EXPORT, name)
    run_block(DEPLOY.partition("python run_performance_on_triton.py")[0], name, server)
    assert [row["passed"] for row in _table("correctness.csv")] == ["True", "True"]


def _table(name: str) -> list[dict[str, str]]:
    with (Path("shared") / name).open(newline="") as file:
        return list(csv.DictReader(file))


def _metadata(server: TritonServer, name: str) -> dict[str, Any]:
    with urlopen(f"{server.http_url}/v2/models/{name}") as answer:
        return dict(json.load(answer))


@pytest.fixture
def documented(tmp_path: Path, write_parquet: WriteParquet, monkeypatch: pytest.MonkeyPatch) -> FeatureSpec:
    """The page's data set in the working directory."""
    monkeypatch.chdir(tmp_path)
    folder = Path("datasets/shop")
    write_parquet(folder / "valid" / "part.parquet", 20, spec=_spec(SPEC))
    (folder / "embedding_sizes.yaml").write_text(SIZES)
    return _spec(SPEC)


def _spec(text: str) -> FeatureSpec:
    path = Path("datasets/shop/feature_spec.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return load_feature_spec(path)


def test_documented_messages_are_the_real_messages(documented: FeatureSpec, write_parquet: WriteParquet) -> None:
    told = []

    def fails(call: Callable[[], object]) -> None:
        with pytest.raises(DataError) as raised:
            call()
        told.append(str(raised.value))

    def rows() -> object:
        return list(get_dataloader_fn(data_pattern="datasets/shop/valid/*.parquet")())

    fails(lambda: _spec(SPEC.replace(", max_hotness: 4", "")))
    fails(lambda: _spec(SPEC.replace("[item, store]", "[item, stor]")))
    fails(lambda: _spec(SPEC.replace("[tags]", "[item]")))
    Path("datasets/shop/embedding_sizes.yaml").write_text(SIZES.replace("store: 4", "store: 0"))
    fails(lambda: load_embedding_sizes(Path("datasets/shop/embedding_sizes.yaml"), documented))
    part = Path("datasets/shop/valid/part.parquet")
    _spec(SPEC)
    write_parquet(part, 20, spec=documented, item=None)
    fails(rows)
    stores = np.zeros(20, np.int32)
    stores[17] = 12
    write_parquet(part, 20, spec=documented, store=stores)
    fails(rows)
    assert told == MESSAGES


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item", pa.array([0.5] * 20), "column item is of type double, but it is an id: write it as int64"),
        ("tags", pa.array([[1]] * 19 + [[1] * 5]), "column tags, row 19 holds a list of 5, longer than max_hotness 4"),
        ("tags", pa.array([[1]] * 19 + [[40]]), "column tags, row 19 holds 40, outside 0 .. 39"),
        ("bought", None, "column bought is missing"),
        ("session", None, "column session is missing"),
        ("bought", pa.array(["yes"] * 20), "column bought is of type string, but it is a label of 0 or 1"),
        ("price", pa.array([[1.0]] * 20), "column price is of type list"),
    ],
)
def test_parquet_error_names_the_line_of_the_specification(
    documented: FeatureSpec, write_parquet: WriteParquet, column: str, values: pa.Array | None, message: str
) -> None:
    write_parquet(Path("datasets/shop/valid/part.parquet"), 20, spec=documented, **{column: values})
    line = next(number for number, text in enumerate(SPEC.splitlines(), 1) if text.startswith(f"  {column}:"))
    with pytest.raises(DataError) as raised:
        list(ParquetDataset("datasets/shop/valid/part.parquet", documented).batches(7))
    assert str(raised.value).startswith(f"datasets/shop/valid/part.parquet: {message}")
    assert str(raised.value).endswith(f"(defined in datasets/shop/feature_spec.yaml:{line})")
