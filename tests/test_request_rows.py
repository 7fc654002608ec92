"""A model that is wrong in one size of request: served, called and compared like in the runner's correctness stage."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import check_correctness
import run_inference_on_triton
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, ModelSpec, Prediction, TensorSpec
from deployment_toolkit.deploying.model_repository import add_package
from deployment_toolkit.deploying.python_package import PythonPackage
from deployment_toolkit.errors import ToleranceError, UsageError
from deployment_toolkit.rows.dump import Dump, DumpOptions, DumpWriter
from deployment_toolkit.rows.request_sizes import request_sizes
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer

ROWS = 4000
MAX_BATCH_SIZE = 256
SIZES = [str(size) for size in request_sizes(MAX_BATCH_SIZE)]
FIRST_WRONG_ROW = sum(size for size in request_sizes(MAX_BATCH_SIZE) if size < 100)
DATALOADER = f"""
import numpy as np

def get_dataloader_fn(*, batch_size: int = {MAX_BATCH_SIZE}, rows: int = {ROWS}):
    def batches():
        x = np.random.default_rng(0).random(({ROWS}, 1), dtype=np.float32)[:rows] / 2
        for start in range(0, rows, batch_size):
            part = x[start : start + batch_size]
            yield np.arange(start, start + len(part)), {{"x": part}}, {{"clicked": (part > 0.25).astype(np.int32)}}
    return batches
"""
WAYS = [(scheme, flags) for scheme in ("grpc", "http") for flags in ([], ["--synchronous"])]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A server that waits for requests to join. Two requests of 50 rows would also become one batch of 100."""
    folder = tmp_path_factory.mktemp("one_size")
    spec = ModelSpec((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
    package = PythonPackage(
        "model", "tests.served_one_size", spec, {}, MAX_BATCH_SIZE, max_queue_delay_us=10_000
    ).package  # fmt: skip
    add_package(folder / "repository", package)
    with local_server(folder / "repository", log_path=folder / "server.log") as running:
        running.load_model("model", timeout_s=60)
        yield running


@pytest.fixture
def dataloader(tmp_path: Path) -> Path:
    path = tmp_path / "dataloader.py"
    path.write_text(DATALOADER)
    return path


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    x = np.random.default_rng(0).random((ROWS, 1), dtype=np.float32) / 2
    with DumpWriter(DumpOptions(tmp_path / "framework", dump_labels=True)) as dump:
        labels = {"clicked": (x > 0.25).astype(np.int32)}
        dump.write(Prediction(Batch(np.arange(ROWS), {}, labels), {"y": x * np.float32(2)}))
    return tmp_path / "framework"


def ask(server: TritonServer, dataloader: Path, dump: Path, scheme: str, *options: str) -> Path:
    url = server.grpc_url if scheme == "grpc" else server.http_url
    argv = ["--server-url", url, "--model-name", "model", "--dataloader", str(dataloader)]
    run_inference_on_triton.main([*argv, "--output-dir", str(dump), "--dump-labels", *options])
    return dump


def gate(reference: Path, dump: Path) -> None:
    argv = ["--metrics", str(ROOT / "metrics.py"), "--output-used-for-metrics", "y", "--dump-dir", str(dump)]
    check_correctness.main([*argv, "--reference-dump-dir", str(reference), "--csv", str(dump.with_suffix(".csv"))])


@pytest.mark.parametrize(("scheme", "flags"), WAYS)
def test_request_size_with_wrong_answers_is_found_by_the_gate(
    server: TritonServer, dataloader: Path, reference: Path, tmp_path: Path, scheme: str, flags: list[str]
) -> None:
    gate(reference, ask(server, dataloader, tmp_path / "largest", scheme, *flags))
    dump = ask(server, dataloader, tmp_path / "sizes", scheme, *flags, "--request-rows", *SIZES)
    assert Dump(dump).rows == ROWS
    with pytest.raises(ToleranceError) as caught:
        gate(reference, dump)
    worst = re.findall(r"row (\d+) of y: .*? \(id (\d+), in a request of (\d+) rows\)", str(caught.value))
    assert len(worst) == 5
    for row, number, rows in worst:
        assert number == row and rows == "100"
        assert FIRST_WRONG_ROW <= int(row) < FIRST_WRONG_ROW + 100
    assert f"100 of {ROWS} rows differ" in str(caught.value)


def test_request_sizes_come_first_and_are_sent_separately(
    server: TritonServer, dataloader: Path, tmp_path: Path
) -> None:
    """Two requests of 50 rows, sent at the same time, would become a wrong batch."""
    halves = ["--request-rows", "50", "50", "50", "50"]
    dump = ask(server, dataloader, tmp_path / "halves", "grpc", *halves, "--batch-size", "200")
    y = np.concatenate([prediction.y_pred["y"] for prediction in Dump(dump).predictions()])
    assert not (y == np.float32(0.99)).any()
    assert json.loads((dump / "requests.json").read_text()) == [[50, 4], [200, 19]]
    dump = ask(server, dataloader, tmp_path / "joined", "grpc", "--rows", "100", "--batch-size", "50")
    y = np.concatenate([prediction.y_pred["y"] for prediction in Dump(dump).predictions()])
    assert (y == np.float32(0.99)).any(), "the server joins nothing: the test shows nothing"


def test_request_sizes_without_rows_are_logged_and_no_row_is_lost(
    server: TritonServer, dataloader: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dump = ask(server, dataloader, tmp_path / "few", "http", "--rows", "90", "--request-rows", *SIZES)
    assert Dump(dump).rows == 90
    assert json.loads((dump / "requests.json").read_text())[:3] == [[1, 1], [2, 1], [3, 1]]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("the data have too few rows: the model was not asked in requests of [")
    assert warning.endswith("255, 256] rows")


@pytest.mark.parametrize("rows", ["0", "257"])
def test_request_size_outside_the_limits_of_the_model_is_refused(
    server: TritonServer, dataloader: Path, tmp_path: Path, rows: str
) -> None:
    with pytest.raises(UsageError, match=f"a request of {rows} rows can't be sent: model model takes 1 to 256"):
        ask(server, dataloader, tmp_path / "none", "grpc", "--request-rows", "1", rows)
    assert not (tmp_path / "none").exists()
