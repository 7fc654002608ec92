"""Reuse: the parts that a second ``convert`` makes again or reuses."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

import navigator.reuse
from deployment_toolkit import library
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.files import fingerprint
from deployment_toolkit.library import registry
from navigator.__main__ import main

TinyOnnx = Callable[..., Path]
Results = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def done(results: Results) -> Callable[[], list[tuple[str, str]]]:
    """Work of the last call, by attempt: the conversion, the comparison."""
    return lambda: [(entry["conversion"], entry["comparison"]) for entry in results()]


@pytest.fixture
def model(tiny_onnx: TinyOnnx, tmp_path: Path) -> Path:
    return tiny_onnx(tmp_path / "model.onnx")


NEW, OLD = ("made", "made"), ("reused", "reused")
Done = Callable[[], list[tuple[str, str]]]


def test_second_convert_reuses_everything(
    command: list[str],
    tiny_savedmodel: Path,
    real_rows: list[str],
    tmp_path: Path,
    done: Done,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = [*command, "-p", str(tiny_savedmodel), *real_rows, "--target-formats", "openvino", "onnx"]
    main(argv)
    first, inode = results(), (tmp_path / "out.onnx" / "model.bin").stat().st_ino
    assert done() == [NEW, NEW]
    log = Path(first[1]["status"]["log_path"]).read_text()
    monkeypatch.setattr(registry, "loader", None)  # no model is loaded, not even the source
    monkeypatch.setattr(registry, "converter", None)
    main(argv)
    assert done() == [OLD, OLD]
    assert [entry["status"] for entry in results()] == [entry["status"] for entry in first]
    assert (tmp_path / "out.onnx" / "model.bin").stat().st_ino == inode  # the result was there already
    assert Path(first[1]["status"]["log_path"]).read_text().startswith(log)


def test_changed_weights_beside_the_source_are_converted_again(
    command: list[str], model: Path, done: Done, tmp_path: Path
) -> None:
    external = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 60}
    onnx.save(onnx.load(str(model)), str(model), **external)
    main([*command, "-p", str(model)])
    changed = onnx.load(str(model))
    table = next(item for item in changed.graph.initializer if item.name == "table")
    wanted = numpy_helper.to_array(table) + 1
    model.with_name("weights.bin").write_bytes(wanted.tobytes())
    main([*command, "-p", str(model)])
    assert done() == [NEW]
    made = onnx.load(str(tmp_path / "out.onnx")).graph.initializer
    assert next(numpy_helper.to_array(item) for item in made if item.name == "table").tolist() == wanted.tolist()


def test_changed_source_is_converted_again(command: list[str], model: Path, done: Done, tmp_path: Path) -> None:
    main([*command, "-p", str(model)])
    times = model.stat()
    changed = onnx.load(str(model))
    table = next(item for item in changed.graph.initializer if item.name == "table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) + 1, "table"))
    onnx.save(changed, str(model))
    os.utime(model, ns=(times.st_atime_ns, times.st_mtime_ns))  # as large and as old as before
    main([*command, "-p", str(model)])
    assert done() == [NEW]
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()


def test_changed_option_repeats_only_the_steps_that_use_it(
    command: list[str], tiny_savedmodel: Path, done: Done, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    argv = [*command, "-p", str(tiny_savedmodel), "--target-formats", "onnx"]
    main([*argv, "--onnx-opsets", "13"])
    main([*argv, "--onnx-opsets", "13", "14"])
    assert done() == [OLD, NEW]
    main([*argv, "--atol", "1e-4"])
    assert done() == [("reused", "made")]
    assert "onnx-opset13: comparison: made before, but changed since: tolerances" in caplog.text
    main([*argv, "--atol", "1e-4", "--max-batch-size", "16"])
    assert done() == [("reused", "made")]
    assert "onnx-opset13: comparison: made before, but changed since: rows" in caplog.text


@pytest.mark.parametrize("harm", ["shorter", "other", "gone"])
def test_damaged_conversion_is_made_again(
    harm: str, command: list[str], model: Path, done: Done, tmp_path: Path
) -> None:
    main([*command, "-p", str(model)])
    made = tmp_path / "workspace" / "converted" / "onnx.onnx"
    content = made.read_bytes()
    made.unlink()
    if harm != "gone":
        made.write_bytes(content[:-1] + (b"?" if harm == "other" else b""))
    main([*command, "-p", str(model)])
    assert done() == [("made", "reused")]  # the same came out, and that was compared
    assert made.read_bytes() == content


def test_other_tool_versions_repeat_the_conversion(
    command: list[str], model: Path, done: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    main([*command, "-p", str(model)])
    monkeypatch.setattr("importlib.metadata.version", lambda name: "99")
    main([*command, "-p", str(model)])
    assert done() == [NEW]


def test_changed_converter_repeats_the_conversion(
    command: list[str], model: Path, done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "library"
    shutil.copytree(library.__path__[0], copy)
    monkeypatch.setattr(library, "__path__", [str(copy)])
    for changed in (None, copy / "onnx" / "session.py"):
        navigator.reuse._own_code.cache_clear()
        if changed is not None:
            changed.write_text(changed.read_text() + "\n")
        main([*command, "-p", str(model)])
    navigator.reuse._own_code.cache_clear()
    assert done() == [NEW]


def test_overridden_workspace_starts_clean(command: list[str], model: Path, done: Done) -> None:
    main([*command, "-p", str(model)])
    main([*command, "-p", str(model), "--override-workspace"])
    assert done() == [NEW]


def test_failed_attempt_is_tried_again(
    command: list[str],
    model: Path,
    tmp_path: Path,
    tiny_onnx: TinyOnnx,
    results: Results,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(self: object, source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise ConversionError("no luck")

    with monkeypatch.context() as patch:
        patch.setattr("deployment_toolkit.library.base.CopyModel.convert", broken)
        with pytest.raises(ConversionError, match="onnx: no luck"):
            main([*command, "-p", str(model)])
    assert list((tmp_path / "workspace" / "converted").iterdir()) == [Path(results()[0]["status"]["log_path"])]
    main([*command, "-p", str(model)])
    assert results()[0]["status"]["state"] == "succeeded"


@pytest.mark.parametrize("text", ["- a", "a: 1", "a: [", "a: {from: 1, outcome: 2}", "\x00"])
def test_damaged_record_reuses_nothing(
    text: str, command: list[str], model: Path, done: Done, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    main([*command, "-p", str(model)])
    state = tmp_path / "workspace" / "convert_model_state.yaml"
    assert set(yaml.safe_load(state.read_text())) == {"onnx: conversion", "onnx: comparison"}
    state.write_text(text)
    main([*command, "-p", str(model)])
    assert done() == [NEW]
    assert f"{state} can't be read: nothing is reused" in caplog.text


def test_fingerprint_depends_on_content_and_names(tmp_path: Path, tiny_savedmodel: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_savedmodel, copy)
    assert fingerprint.of_path(tiny_savedmodel) == fingerprint.of_path(copy)
    (copy / "saved_model.pb").rename(copy / "saved_model.pbtxt")
    assert fingerprint.of_path(tiny_savedmodel) != fingerprint.of_path(copy)
    values = np.arange(4, dtype=np.int32)
    others = (values + 1, values.reshape(2, 2), values.astype(np.int64))
    batches: list[list[Arrays]] = [
        [{"x": values}],
        [{"y": values}],
        *([{"x": other}] for other in others),
        [{"x": values}] * 2,
    ]
    assert len({fingerprint.of_batches(batch) for batch in batches}) == len(batches)
