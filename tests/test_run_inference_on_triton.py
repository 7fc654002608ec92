from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import InferenceError, ProcessError, UsageError
from deployment_toolkit.process import run
from deployment_toolkit.rows.dump import Dump
from deployment_toolkit.triton_server.remote import TritonServer
from run_inference_on_triton import main

SCRIPT = ROOT / "run_inference_on_triton.py"
DATALOADER = """
import numpy as np

def get_dataloader_fn(*, rows: int, batch_size: int = 16, marked_row: int = -1, delay_s: float = 0.0):
    def batches():
        for start in range(0, rows, batch_size):
            ids = np.arange(start, min(start + batch_size, rows))
            x2 = np.stack([ids, ids, -np.ones_like(ids)], axis=1).astype(np.int32)
            x2[ids == marked_row] = 666
            x1 = ids[:, None].astype(np.float32) / 4 if not delay_s else np.full((len(ids), 1), 1000 + delay_s, "f4")
            yield ids, {"x1": x1, "x2": x2}, {"clicked": (ids[:, None] % 2)}
    return batches
"""


@pytest.fixture
def dataloader(tmp_path: Path) -> Path:
    path = tmp_path / "dataloader.py"
    path.write_text(DATALOADER)
    return path


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("flags", [[], ["--synchronous"], ["--max-unresponded-requests", "2"]])
def test_inference_on_triton_writes_a_dump(
    adder_server: TritonServer, dataloader: Path, tmp_path: Path, scheme: str, flags: list[str]
) -> None:
    url = adder_server.grpc_url.removeprefix("grpc://") if scheme == "grpc" else adder_server.http_url
    argv = ["--server-url", url, "--model-name", "adder", "--model-version", "1", "--dataloader", str(dataloader)]
    argv += ["--rows", "300", "--batch-size", "50", "--output-dir", str(tmp_path / "dump"), "--dump-labels"]
    main([*argv, *flags])
    dump = Dump(tmp_path / "dump")
    assert dump.rows == 300
    predictions = list(dump.predictions())
    ids = np.concatenate([prediction.batch.ids for prediction in predictions])
    y_pred = np.concatenate([prediction.y_pred["y"] for prediction in predictions])
    labels = np.concatenate([prediction.batch.y["clicked"] for prediction in predictions])
    np.testing.assert_array_equal(ids, np.arange(300))
    np.testing.assert_allclose(y_pred[:, 0], ids / 4 + 2 * ids - 1)
    np.testing.assert_array_equal(labels[:, 0], ids % 2)


def test_failed_batch_leaves_no_dump(adder_server: TritonServer, dataloader: Path, tmp_path: Path) -> None:
    argv = ["--server-url", adder_server.http_url, "--model-name", "adder", "--dataloader", str(dataloader)]
    with pytest.raises(InferenceError, match="batch 4 of 16 rows: the server answered: id 666 is marked"):
        main([*argv, "--rows", "300", "--marked-row", "55", "--output-dir", str(tmp_path / "out" / "dump")])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("flags", [[], ["--synchronous"]])
def test_response_wait_time_limits_the_wait(
    adder_server: TritonServer, dataloader: Path, tmp_path: Path, flags: list[str]
) -> None:
    argv = ["--server-url", adder_server.grpc_url, "--model-name", "adder", "--dataloader", str(dataloader), *flags]
    argv += ["--rows", "4", "--delay-s", "1", "--output-dir", str(tmp_path / "dump")]
    with pytest.raises(InferenceError, match=r"0\.2 s"):
        main([*argv, "--response-wait-time", "0.2"])
    assert not (tmp_path / "dump").exists()
    main([*argv, "--response-wait-time", "20"])
    assert Dump(tmp_path / "dump").rows == 4


@pytest.mark.parametrize("dump_format", ["json", "npy"])
def test_inputs_are_dumped_by_option(
    adder_server: TritonServer, dataloader: Path, tmp_path: Path, dump_format: str
) -> None:
    argv = ["--server-url", adder_server.grpc_url, "--model-name", "adder", "--dataloader", str(dataloader)]
    argv += ["--rows", "40", "--dump-inputs", "--dump-format", dump_format, "--output-dir", str(tmp_path / "dump")]
    main(argv)
    assert f".{dump_format}" in {path.suffix for path in (tmp_path / "dump").rglob("*")}
    x1 = np.concatenate([prediction.batch.x["x1"] for prediction in Dump(tmp_path / "dump").predictions()])
    np.testing.assert_allclose(x1[:, 0], np.arange(40) / 4)


def test_missing_model_is_one_line(adder_server: TritonServer, dataloader: Path, tmp_path: Path) -> None:
    argv: list[str | Path] = [
        sys.executable,
        SCRIPT,
        "--server-url",
        adder_server.http_url,
        "--model-name",
        "WidenDeep",
    ]
    argv += ["--dataloader", dataloader, "--rows", "10", "--output-dir", tmp_path / "dump"]
    with pytest.raises(ProcessError) as caught:
        run(argv, log_path=tmp_path / "log", timeout_s=60)
    assert caught.value.returncode == 1
    lines = caught.value.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: there is no model WidenDeep")
    assert not (tmp_path / "dump").exists()


def test_unknown_option_is_named(dataloader: Path) -> None:
    argv = ["--model-name", "m", "--dataloader", str(dataloader), "--rows", "1", "--output-dir", "d"]
    with pytest.raises(UsageError, match="--no-such-option"):
        main([*argv, "--no-such-option"])
