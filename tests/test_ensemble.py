"""Ensemble: raw features through the served chain of preprocessing and network, compared with the batch path:
preprocessed parquet through the network in its framework."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import deploy_ensemble
import export_model
import run_inference_on_fw
import run_inference_on_triton
import run_performance_on_triton
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays, Batch
from deployment_toolkit.deploying.model_config import parse_config
from deployment_toolkit.errors import DataError, DeploymentError, InferenceError, InputError
from deployment_toolkit.library.onnx.session import OnnxLoader
from deployment_toolkit.results.performance import read_performance
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_inference_runner.base import open_session
from deployment_toolkit.triton_inference_runner.grpc import GrpcTransport
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main as navigator
from raw_dataloader import get_dataloader_fn
from tests.small_outbrain import small_outbrain_spec
from widedeep import raw_rows, synthetic
from widedeep.data.parquet import ParquetDataset
from widedeep.features.files import feature_schema, to_table
from widedeep.features.outbrain import embedding_widths
from widedeep.features.spec import OUTPUT_NAME, Feature, FeatureSpec, load_feature_spec
from widedeep.model.checkpoint import checkpoint_names, save_checkpoint
from widedeep.model.network import build_network
from widedeep.preprocessing import __main__ as preprocessing
from widedeep.preprocessing.nvtabular_import import import_nvtabular

PAGE = (ROOT / "docs" / "ensemble.md").read_text()
NAME = "RawWidenDeep"
MAX_BATCH = 256
INSTANCES = 2
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Deployed:
    """A served ensemble of preprocessing and ``WidenDeep``, and the files that it was made from."""

    folder: Path
    server: TritonServer

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def rows(self) -> str:
        """Pattern of the raw validation rows."""
        return str(self.folder / "joined" / "valid" / "*.parquet")

    @property
    def spec_path(self) -> Path:
        return self.data / "feature_spec.yaml"

    @property
    def spec(self) -> FeatureSpec:
        return load_feature_spec(self.spec_path)

    @property
    def repository(self) -> Path:
        return self.folder / "models"

    def arguments(self, **changes: object) -> list[str]:
        """Arguments of deploy_ensemble.py."""
        options = {
            "ensemble_model_name": NAME,
            "model_name": "WidenDeep",
            "model_repository": self.repository,
            "workflow_path": self.data / "workflow",
            "feature_spec": self.spec_path,
            **changes,
        }
        return [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]

    def first_rows(self, rows: int) -> Batch:
        ids, x, y = next(get_dataloader_fn(data_pattern=self.rows, batch_size=rows, feature_spec=self.spec_path)())
        return Batch(ids, x, y)


def documented(script: str, folder: Path, server: TritonServer | None = None) -> list[str]:
    """Options of a command on the page about ensembles, for this folder and this server."""
    (command,) = re.findall(rf"^python {re.escape(script)} ((?:.*\\\n)*.*)$", PAGE, re.MULTILINE)
    places = {
        "${DATASETS_DIR}/outbrain_raw": folder / "csv",
        "${DATASETS_DIR}/outbrain_joined": folder / "joined",
        "${DATASETS_DIR}/outbrain/": f"{folder}/data/",
        "${MODEL_REPOSITORY_PATH}": folder / "models",
        "${SHARED_DIR}/": f"{folder}/shared/",
        "raw_dataloader.py": ROOT / "raw_dataloader.py",
        "grpc://localhost:8001": server.grpc_url if server else "",
    }
    for printed, place in places.items():
        command = command.replace(printed, str(place))
    return shlex.split(command.replace("\\\n", ""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with raw CSVs, the preprocessed data, the rows before preprocessing, and an exported network with random
    weights."""
    folder = tmp_path_factory.mktemp("ensemble")
    spec = small_outbrain_spec(50)
    (folder / "spec.yaml").write_text(spec.to_yaml())
    synthetic.main(["--output-dir", str(folder / "csv"), "--displays", "500", "--seed", "3"])
    argv = ["--raw-dir", str(folder / "csv"), "--output-dir", str(folder / "data")]
    preprocessing.main([*argv, "--feature-spec", str(folder / "spec.yaml")])
    raw_rows.main(documented("-m widedeep.raw_rows", folder))
    network = build_network(spec, embedding_widths(spec), hidden_units=(16, 16))
    generator = np.random.default_rng(5)
    for variable in checkpoint_names(network).values():
        variable.assign(generator.normal(0, 0.3, variable.shape))
    save_checkpoint(network, folder / "checkpoint")
    export_model.main([*_network(folder), "--output-path", str(folder / "model.onnx"), "--output-type", "onnx"])
    return folder


def _network(folder: Path) -> list[str]:
    options = ["--input-path", str(ROOT / "model.py"), "--input-type", "tf-keras", "--precision", "fp32"]
    options += ["--checkpoint-dir", str(folder / "checkpoint"), "--deep-hidden-units", "16", "16"]
    return [*options, "--feature-spec", str(folder / "data" / "feature_spec.yaml")]


@pytest.fixture(scope="module")
def deployed(folder: Path) -> Iterator[Deployed]:
    """The ensemble on a running server."""
    (folder / "models").mkdir()
    with local_server(folder / "models", log_path=folder / "server.log") as server:
        argv = ["triton-config-model", "--model-name", "WidenDeep", "--model-path", str(folder / "model.onnx")]
        argv += ["--model-repository", str(folder / "models"), "--workspace-path", str(folder / "navigator")]
        argv += ["--batching", "dynamic", "--max-batch-size", str(MAX_BATCH), "--host", "python"]
        navigator([*argv, "--load-model", "--server-url", server.grpc_url])
        argv = documented("deploy_ensemble.py", folder, server)
        argv[argv.index("--preprocessing-instances") + 1] = str(INSTANCES)
        deploy_ensemble.main(argv)
        yield Deployed(folder, server)


@pytest.fixture(scope="module")
def reference(folder: Path) -> Dump:
    """The preprocessed validation rows through the network in TensorFlow."""
    rows = ["--dataloader", str(ROOT / "dataloader.py"), "--data-pattern", str(folder / "data" / "valid" / "*.parquet")]
    argv = [*_network(folder), *rows, "--output-dir", str(folder / "framework"), "--dump-labels"]
    run_inference_on_fw.main(argv)
    return Dump(folder / "framework")


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_ensemble_answers_equal_the_batch_path(scheme: str, deployed: Deployed, reference: Dump) -> None:
    argv = documented("run_inference_on_triton.py", deployed.folder, deployed.server)
    changes = ["--feature-spec", str(deployed.spec_path), "--batch-size", "100"]
    if scheme == "http":
        changes += ["--server-url", deployed.server.http_url]
    run_inference_on_triton.main([*argv, *changes])
    ours, theirs = (
        next(dump.predictions()) for dump in (Dump(deployed.folder / "shared" / "dumps" / "ensemble"), reference)
    )
    assert len(ours.batch) > 500
    np.testing.assert_array_equal(ours.batch.ids, theirs.batch.ids)
    np.testing.assert_array_equal(ours.batch.y["clicked"], theirs.batch.y["clicked"])
    np.testing.assert_allclose(ours.y_pred[OUTPUT_NAME], theirs.y_pred[OUTPUT_NAME], rtol=0, atol=TOLERANCE)
    assert theirs.y_pred[OUTPUT_NAME].std() > 0.01


def test_instances_of_preprocessing_map_the_same_files_read_only(deployed: Deployed) -> None:
    folder = (deployed.repository / f"{NAME}_preprocessing" / "1" / "workflow" / "tables").resolve()
    files = {str(path): path.stat().st_ino for path in folder.iterdir()}
    mapped: dict[int, dict[str, tuple[str, int]]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            for line in (process / "maps").read_text().splitlines():
                _, access, _, _, inode, *path = line.split(maxsplit=5)
                if path and path[0] in files:
                    mapped.setdefault(int(process.name), {})[path[0]] = access, int(inode)
    assert len(files) == 27 and len(mapped) == INSTANCES
    for found in mapped.values():
        assert found == {path: ("r--s", inode) for path, inode in files.items()}


def test_ensemble_answers_to_odd_values_equal_the_batch_path(deployed: Deployed, tmp_path: Path) -> None:
    frame = pd.DataFrame({name: array.ravel() for name, array in deployed.first_rows(12).x.items()})
    frame["clicked"], frame["display_id"] = np.int32(0), np.arange(12, dtype=np.int32)
    frame.loc[0, ["publish_time", "publish_time_promo"]] = np.nan
    frame.loc[1, ["publish_time", "publish_time_promo"]] = [np.inf, -np.inf]
    frame.loc[2, ["document_id", "document_id_promo", "source_id", "publisher_id", "campaign_id"]] = -1
    frame.loc[3, ["ad_id", "advertiser_id", "platform"]] = [np.iinfo(np.int64).max, np.iinfo(np.int64).min, -5]
    frame.loc[4, "platform"] = 99
    for row, geo in enumerate(["", "X", "US>CA>807" * 2000, "é>ß", " "], start=5):
        frame.loc[row, "geo_location"] = geo
    frame.loc[10, "timestamp"] = np.iinfo(np.int64).max
    frame.loc[11, "timestamp"] = -1
    frame.to_parquet(tmp_path / "odd.parquet")
    nvtabular = import_nvtabular()
    workflow = nvtabular.Workflow.load(deployed.data / "workflow")
    dataset = nvtabular.Dataset([str(tmp_path / "odd.parquet")], engine="parquet")
    (features,) = workflow.transform(dataset).to_iter()
    pq.write_table(to_table(features, feature_schema(deployed.spec)), tmp_path / "features.parquet")
    batch = next(ParquetDataset(str(tmp_path / "features.parquet"), deployed.spec).batches(12))
    with OnnxLoader().load(deployed.folder / "model.onnx") as session:
        expected = session.infer(batch.x)[OUTPUT_NAME]
    odd = {name: frame[name].to_numpy().reshape(-1, 1) for name in deployed.first_rows(1).x}
    np.testing.assert_allclose(_ask(deployed, odd), expected, rtol=0, atol=TOLERANCE)


def _ask(deployed: Deployed, x: Arrays, name: str = NAME) -> Any:
    rows = len(next(iter(x.values())))
    with open_session(
        deployed.server.grpc_url, name, synchronous=True, max_unresponded_requests=1, response_wait_time_s=30
    ) as session:
        return next(session.predict([Batch(np.arange(rows), x)])).y_pred[OUTPUT_NAME]


def test_invalid_row_fails_only_its_own_request(deployed: Deployed) -> None:
    good = deployed.first_rows(3).x
    bad = good | {"geo_location": np.array([[b"US"], [b"\xff\xfe"], [b""]], dtype=object)}
    expected = _ask(deployed, good)
    transport = GrpcTransport(ServerUrl.parse(deployed.server.grpc_url), NAME, "1", 40)
    responses = [transport.send(bad if number % 10 == 5 else good) for number in range(40)]
    for number, response in enumerate(responses):
        if number % 10 == 5:
            with pytest.raises(InferenceError, match="geo_location holds a string that is not UTF-8"):
                response.result(30)
        else:
            np.testing.assert_array_equal(response.result(30)[OUTPUT_NAME], expected)
    transport.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"platform": None}, "missing \\['platform'\\]"),
        ({"platform": np.zeros((3, 1), np.int32)}, "the model takes int64"),
        ({"geo_location": np.zeros((3, 1), np.float32)}, "the model takes object"),
    ],
)
def test_request_with_other_columns_is_refused(change: dict[str, Any], message: str, deployed: Deployed) -> None:
    x = {name: array for name, array in (deployed.first_rows(3).x | change).items() if array is not None}
    with pytest.raises(InputError, match=message):
        _ask(deployed, x)


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_ensemble_performance_is_measured(mode: str, deployed: Deployed) -> None:
    argv = documented("run_performance_on_triton.py", deployed.folder)
    argv += ["--feature-spec", str(deployed.spec_path), "--evaluation-mode", mode, "--concurrency", "2"]
    argv += ["--measurement-mode", "time_windows", "--measurement-interval", "300", "--retries", "0"]
    url = deployed.server.grpc_url if mode == "offline" else deployed.server.http_url
    run_performance_on_triton.main([*argv, "--server-url", url])
    (row,) = read_performance(deployed.folder / "shared" / "ensemble_performance_online.csv")
    assert (row["Batch"], row["Concurrency"]) == (32, 2)
    assert row["Inferences/Second"] > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "Other"}, "there is no model Other in"),
        ({"model_version": 3}, "serves version 1, not 3"),
        ({"max_batch_size": MAX_BATCH + 1}, f"model WidenDeep takes at most {MAX_BATCH} rows"),
        ({"max_batch_size": 0}, f"model WidenDeep takes at most {MAX_BATCH} rows"),
        ({"ensemble_model_name": "WidenDeep"}, "WidenDeep is the name of one of its models"),
        ({"workflow_path": ROOT / "nowhere"}, "there is no workflow at"),
        ({"preprocessing_instances": 0}, "instances must be at least 1"),
        (
            {"feature_spec": "hotter"},
            "takes category_id_list as int32\\[3\\], but RawWidenDeep_preprocessing makes .* int32\\[5\\]",
        ),
        ({"feature_spec": "more"}, "the workflow does not make weather"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_ensemble_of_parts_that_do_not_fit_is_refused(
    change: dict[str, Any], message: str, deployed: Deployed, tmp_path: Path
) -> None:
    spec = deployed.spec
    hotter = tuple(dataclasses.replace(item, max_hotness=5) for item in spec.multihot)
    others = {
        "hotter": dataclasses.replace(spec, multihot=hotter),
        "more": dataclasses.replace(spec, numerical=(*spec.numerical, Feature("weather", "float32"))),
    }
    for name, other in others.items():
        (tmp_path / name).write_text(other.to_yaml())
    if "feature_spec" in change:
        change = {"feature_spec": tmp_path / change["feature_spec"]}
    before = {path: path.stat().st_mtime_ns for path in deployed.repository.rglob("*")}
    with pytest.raises(DeploymentError, match=message):
        deploy_ensemble.main(deployed.arguments(**change))
    assert {path: path.stat().st_mtime_ns for path in deployed.repository.rglob("*")} == before


def test_preprocessing_options_reach_its_configuration(deployed: Deployed) -> None:
    changes = {"ensemble_model_name": "Other", "max_batch_size": 32}
    deploy_ensemble.main(deployed.arguments(**changes, preprocessing_instances=3, max_queue_delay_us=500))
    config = parse_config((deployed.repository / "Other_preprocessing" / "config.pbtxt").read_text())
    assert (config.max_batch_size, config.instance_group[0].count) == (32, 3)
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert parse_config((deployed.repository / "Other" / "config.pbtxt").read_text()).max_batch_size == 32


def test_preprocessing_has_the_limits_of_the_networks_queue(deployed: Deployed) -> None:
    argv = ["triton-config-model", "--model-name", "Limited", "--model-path", str(deployed.folder / "model.onnx")]
    argv += ["--model-repository", str(deployed.repository), "--workspace-path", str(deployed.folder / "navigator")]
    navigator(
        [*argv, "--batching", "dynamic", "--max-batch-size", "32", "--host", "python", "--latency-budget-ms", "80"]
    )
    names = {"model_name": "Limited", "ensemble_model_name": "RawLimited"}
    deploy_ensemble.main(deployed.arguments(**names))
    config = parse_config((deployed.repository / "RawLimited_preprocessing" / "config.pbtxt").read_text())
    assert config.dynamic_batching.default_queue_policy.default_timeout_microseconds == 40_000
    with pytest.raises(DeploymentError, match="max_queue_delay_us 5: with a queue that has limits"):
        deploy_ensemble.main(deployed.arguments(**names, max_queue_delay_us=5))


def test_network_without_batching_makes_an_ensemble_without_batching(deployed: Deployed) -> None:
    argv = ["triton-config-model", "--model-name", "Single", "--model-path", str(deployed.folder / "model.onnx")]
    argv += ["--model-repository", str(deployed.repository), "--workspace-path", str(deployed.folder / "navigator")]
    navigator([*argv, "--batching", "disabled", "--host", "python"])
    names = {"model_name": "Single", "ensemble_model_name": "RawSingle"}
    deploy_ensemble.main([*deployed.arguments(server_url=deployed.server.grpc_url, **names), "--load-model"])
    assert deployed.server.model_config("RawSingle")["max_batch_size"] == 0
    x = deployed.first_rows(5).x
    np.testing.assert_allclose(_ask(deployed, x, "RawSingle"), _ask(deployed, x), rtol=0, atol=TOLERANCE)
    for name in ("RawSingle", "RawSingle_preprocessing", "Single"):
        deployed.server.unload_model(name)


def test_documented_client_example_works(deployed: Deployed, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert '"localhost:8001"' in code
    exec(code.replace("localhost:8001", ServerUrl.parse(deployed.server.grpc_url).address), {})
    assert 0 < float(capsys.readouterr().out) < 1


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("ad_id", pd.array([1, None], dtype="Int64"), "column ad_id, row 1 is null: write -1 for an unknown id"),
        ("tags", [[1], [2]], "column tags is of type list<.*>: a raw feature is a number or a string"),
        ("clicked", [0, 2], "column clicked, row 1 holds 2"),
    ],
)
def test_raw_rows_that_cannot_be_sent_are_refused(column: str, values: Any, message: str, tmp_path: Path) -> None:
    frame = pd.DataFrame({"display_id": [1, 1], "clicked": [0, 1], "ad_id": [5, 6]}).assign(**{column: values})
    frame.to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=f"rows.parquet: {message}"):
        list(get_dataloader_fn(data_pattern=str(tmp_path / "*.parquet"))())


def test_raw_dataloader_reads_unknown_values(tmp_path: Path) -> None:
    frame = {"display_id": [1, 1], "clicked": [0, 1], "geo_location": ["US", None], "publish_time": [None, 2.5]}
    pd.DataFrame(frame).to_parquet(tmp_path / "rows.parquet")
    loader = get_dataloader_fn(data_pattern=str(tmp_path / "*.parquet"))
    ((ids, x, y),) = loader()
    assert (loader.num_rows, ids.tolist(), y["clicked"].tolist()) == (2, [1, 1], [[0], [1]])
    assert x["geo_location"].tolist() == [["US"], [""]]
    np.testing.assert_array_equal(x["publish_time"], [[np.nan], [2.5]])
