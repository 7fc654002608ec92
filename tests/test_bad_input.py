"""Kinds of bad input, through the commands that a user runs: one line, exit code 1, no traceback, no partial files."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import calculate_metrics
import export_model
import run_inference_on_fw
import run_inference_on_triton
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.triton_server import __main__ as triton_server
from deployment_toolkit.triton_server.remote import TritonServer
from navigator.__main__ import main as model_navigator
from runner.__main__ import main as runner
from widedeep import synthetic

Main = Callable[[list[str]], int | None]
Fail = Callable[..., str]
DiskUsage = namedtuple("DiskUsage", "total used free")
SPEC = """
feature_spec:
  amount: {dtype: float32}
  item: {dtype: int32, cardinality: 10}
  tags: {dtype: int32, cardinality: 5, max_hotness: 3}
  clicked: {dtype: int32}
  display_id: {dtype: int32}
channel_spec:
  numerical: [amount]
  onehot_categorical: [item]
  multihot_categorical: [tags]
  label: [clicked]
  map: [display_id]
"""
COLUMNS: dict[str, Any] = {
    "amount": pa.array([0.5, 1.5], pa.float32()),
    "item": pa.array([1, 9], pa.int32()),
    "tags": pa.array([[1], [2, 3]], pa.list_(pa.int32())),
    "clicked": pa.array([0, 1], pa.int32()),
    "display_id": pa.array([7, 7], pa.int32()),
}


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str]) -> Fail:
    """Runs a command that must fail, and returns its one line of error."""

    def call(main: Main, *argv: object) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            run_entry_point(main, [str(part) for part in argv])
        printed = capfd.readouterr().err
        assert left.value.code == 1, printed
        assert "Traceback" not in printed
        lines = [line for line in printed.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, printed
        assert printed.rstrip().endswith(lines[0])
        return lines[0]

    return call


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modl_name": "x"}, "unknown key modl_name, did you mean model_name?"),
        ({"model_name": None}, "key model_name is missing"),
    ],
)
def test_bad_configuration_is_one_line(change: dict[str, Any], message: str, fail: Fail, tmp_path: Path) -> None:
    plain = yaml.safe_load((ROOT / "runner" / "config_CPU.yaml").read_text()) | change
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in plain.items() if value is not None}))
    workspace = tmp_path / "workspace"
    assert message in fail(runner, "--config-path", path, "--workspace-path", workspace)
    assert not workspace.exists()


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("item", None, "item"),
        ("item", pa.array(["a", "b"]), "item"),
        ("item", pa.array([1, None], pa.int32()), "null"),
        ("item", pa.array([1, 10], pa.int32()), "10"),
        ("item", pa.array([-1, 1], pa.int32()), "-1"),
        ("tags", pa.array([[1], [5]], pa.list_(pa.int32())), "5"),
        ("amount", pa.array([0.5, None], pa.float32()), "null"),
    ],
    ids=["missing", "type", "nulls", "id above", "id below", "list id above", "null number"],
)
def test_bad_parquet_column_is_one_line(
    column: str, values: Any, message: str, fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]
) -> None:
    columns = COLUMNS | {column: values}
    table = pa.table({name: array for name, array in columns.items() if array is not None})
    line = _infer(table, fail, tmp_path, tiny_onnx)
    assert "part.parquet" in line
    assert column in line
    assert message in line


def test_parquet_without_rows_is_one_line(fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]) -> None:
    assert "no rows" in _infer(pa.table(COLUMNS).slice(0, 0), fail, tmp_path, tiny_onnx)


def test_truncated_parquet_is_one_line(fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]) -> None:
    path = _write(pa.table(COLUMNS), tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    line = fail(run_inference_on_fw.main, *_inference(path, tmp_path, tiny_onnx))
    assert "part.parquet" in line
    assert "truncated" in line
    assert not (tmp_path / "dump").exists()


def test_pattern_that_matches_no_file_is_one_line(fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]) -> None:
    pattern = tmp_path / "*.parkett"
    assert f"data pattern '{pattern}' matches no file" in fail(
        run_inference_on_fw.main, *_inference(pattern, tmp_path, tiny_onnx)
    )


def _infer(table: pa.Table, fail: Fail, folder: Path, tiny_onnx: Callable[..., Path]) -> str:
    line = fail(run_inference_on_fw.main, *_inference(_write(table, folder), folder, tiny_onnx))
    assert not (folder / "dump").exists()
    return line


def _write(table: pa.Table, folder: Path) -> Path:
    import pyarrow.parquet as pq

    path = folder / "part.parquet"
    pq.write_table(table, path)
    return path


def _inference(pattern: Path, folder: Path, tiny_onnx: Callable[..., Path]) -> list[object]:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC)
    model = tiny_onnx(folder / "model.onnx")
    options = ["--input-path", model, "--input-type", "onnx", "--output-dir", folder / "dump"]
    options += ["--dataloader", ROOT / "dataloader.py", "--data-pattern", pattern, "--feature-spec", spec]
    return options


@pytest.mark.parametrize("kind", ["empty", "other"])
def test_bad_checkpoint_is_one_line(kind: str, fail: Fail, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC)
    checkpoint, output = tmp_path / "checkpoint", tmp_path / "exported.savedmodel"
    checkpoint.mkdir()
    if kind == "other":
        import tensorflow as tf

        other = tf.train.Checkpoint(model=tf.train.Checkpoint(tower=tf.Variable(np.zeros(3, np.float32))))
        tf.train.CheckpointManager(other, str(checkpoint), max_to_keep=1).save()
    argv = ["--input-path", ROOT / "model.py", "--input-type", "tf-keras", "--output-type", "tf-savedmodel"]
    argv += ["--output-path", output, "--checkpoint-dir", checkpoint, "--feature-spec", spec]
    line = fail(export_model.main, *argv, "--deep-hidden-units", 4)
    assert str(checkpoint) in line
    if kind == "other":
        assert "missing: dnn_model/layer_with_weights-0/item.Sembedding_weights" in line
        assert "unexpected: tower" in line
    else:
        assert "there is no checkpoint" in line
    assert not output.exists()


def test_port_in_use_is_one_line(fail: Fail, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = fail(triton_server.main, "--model-repository", tmp_path / "models", "--http-port", port)
    assert f"{port}" in line
    assert "in use" in line


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_missing_model_is_one_line(scheme: str, fail: Fail, tmp_path: Path, adder_server: TritonServer) -> None:
    url = adder_server.grpc_url if scheme == "grpc" else adder_server.http_url
    line = fail(run_inference_on_triton.main, *_served(url, "WidenDeep", tmp_path))
    assert "no model WidenDeep" in line
    assert "adder" in line, "what is there is named"


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("flags", [[], ["--synchronous"]])
def test_missing_server_is_one_line(scheme: str, flags: list[str], fail: Fail, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
        line = fail(run_inference_on_triton.main, *_served(url, "WidenDeep", tmp_path), *flags)
    assert "no server answers" in line
    assert not (tmp_path / "dump").exists()


def _served(url: str, name: str, folder: Path) -> list[object]:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC)
    rows = ["--dataloader", ROOT / "dataloader.py", "--data-pattern", _write(pa.table(COLUMNS), folder)]
    return ["--server-url", url, "--model-name", name, *rows, "--feature-spec", spec, "--output-dir", folder / "dump"]


def test_full_disk_for_a_run_is_one_line(fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(2**40, 2**40, 2**20))
    workspace = tmp_path / "workspace"
    line = fail(runner, "--config-path", ROOT / "runner" / "config_CPU.yaml", "--workspace-path", workspace)
    assert "GiB on the disk" in line
    assert not workspace.exists()


def test_full_disk_for_a_model_is_one_line(
    fail: Fail, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_onnx: Callable[..., Path]
) -> None:
    model = tiny_onnx(tmp_path / "model.onnx")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: DiskUsage(2**40, 2**40, 1))
    argv = ["convert", "--model-name", "tiny", "--model-path", model, "--output-path", tmp_path / "converted"]
    argv += ["--workspace-path", tmp_path / "navigator"]
    assert "KiB on the disk" in fail(model_navigator, *argv)
    assert not (tmp_path / "converted").exists()


def test_place_that_cannot_be_written_is_told_before_the_work(
    fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]
) -> None:
    """The work itself would fail too, as the checkpoint is missing and the rows don't fit."""
    model, place = tiny_onnx(tmp_path / "model.onnx"), Path("/sys/made")  # no user can write there
    rows = ["--dataloader", ROOT / "dataloader.py", "--data-pattern", _write(pa.table(COLUMNS), tmp_path)]
    keras = ["--input-path", ROOT / "model.py", "--input-type", "tf-keras", "--precision", "fp32"]
    keras += ["--checkpoint-dir", tmp_path / "none", "--output-path", place, "--output-type", "tf-savedmodel"]
    tiny = ["-n", "tiny", "-p", model]
    commands: list[tuple[Main, list[object]]] = [
        (export_model.main, keras),
        (model_navigator, ["convert", *tiny, "-o", place, "--workspace-path", tmp_path / "navigator", *rows]),
        (model_navigator, ["triton-config-model", *tiny, "--model-repository", place, "--workspace-path", place]),
        (synthetic.main, ["--output-dir", place]),
    ]
    for main, argv in commands:
        assert fail(main, *argv).startswith(f"error: {place}")
    assert not (tmp_path / "navigator").exists()


def test_long_name_is_one_line(fail: Fail, tmp_path: Path, tiny_onnx: Callable[..., Path]) -> None:
    model, name = tiny_onnx(tmp_path / "model.onnx"), "n" * 260
    options = ["--model-repository", tmp_path / "store", "--workspace-path", tmp_path / "navigator"]
    argv = ["triton-config-model", "--model-path", model, *options]
    assert "its name has 260 bytes, a folder's name at most 255" in fail(model_navigator, *argv, "--model-name", name)
    assert "File name too long; choose a shorter name" in fail(
        model_navigator, "convert", "-n", "tiny", "-p", model, "-o", tmp_path / name
    )
    assert "File name too long; choose a shorter name" in fail(
        model_navigator, "convert", "-n", "tiny", "-p", tmp_path / name
    )


def test_missing_dump_is_one_line(fail: Fail, tmp_path: Path) -> None:
    argv = ["--metrics", ROOT / "metrics.py", "--dump-dir", tmp_path / "nowhere", "--csv", tmp_path / "metrics.csv"]
    assert f"there is no dump at {tmp_path / 'nowhere'}" in fail(calculate_metrics.main, *argv)
    assert not (tmp_path / "metrics.csv").exists()
