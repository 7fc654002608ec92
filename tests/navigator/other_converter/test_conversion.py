"""Conversions by triton-model-navigator itself, in ``.venv-model-navigator``."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from deployment_toolkit.core import Format
from deployment_toolkit.errors import ConversionError
from deployment_toolkit.library import registry
from deployment_toolkit.options.params import run_entry_point
from deployment_toolkit.process import run
from navigator.__main__ import main
from navigator.other_converter import converter

Results = Callable[[], list[dict[str, Any]]]
BY_LIBRARY = ["--converter", "triton-model-navigator", "--inputs", "wide:-1,2:float32", "--max-batch-size", "4"]


def test_the_result_is_a_model_like_any_other_and_is_reused(
    command: list[str],
    summing_savedmodel: Path,
    results: Results,
    tmp_path: Path,
    arguments: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    argv = [*command, "-p", str(summing_savedmodel), *BY_LIBRARY, "--outputs", "points=score:-1,1:float32"]
    main(argv)

    (entry,) = results()
    assert (entry["name"], entry["converter"]) == ("onnx-opset13-triton-model-navigator", "triton-model-navigator")
    assert entry["status"]["message"] == "5 rows agree, largest difference 0"
    said = entry["triton-model-navigator"]
    assert said["versions"]["triton-model-navigator"] == "0.14.0"
    assert said["comparison"] == {name: {"atol": 0, "rtol": 0} for name in ("points", "twice")}
    assert all(one["rows_per_s"] > 0 for one in said["profile"])  # it has none if it does not settle

    kept = Path(said["kept"])
    assert {path.name for path in kept.iterdir()} >= {"model.nav", "summary.json", "navigator.log", "output.log"}
    with zipfile.ZipFile(kept / "model.nav") as package:
        assert {"status.yaml", "onnx/model.onnx", "tf-savedmodel/model.savedmodel/saved_model.pb"} <= set(
            package.namelist()
        )
        status = yaml.safe_load(package.read("status.yaml"))
    assert status["environment"]["python_packages"]["triton-model-navigator"] == "0.14.0"

    assert onnx.load(str(tmp_path / "out.onnx")).opset_import[0].version == 13
    with registry.loader(Format.ONNX)().load(tmp_path / "out.onnx") as session:
        assert session.spec.value_ranges == {"item": (0, 9), "tags": (-1, 4)}
        x = {"item": np.array([[3]]), "tags": np.array([[1, 2, -1]], np.int32), "wide": np.ones((1, 2), np.float32)}
        assert {name: array.tolist() for name, array in session.infer(x).items()} == {"points": [[34]], "twice": [[6]]}

    (tmp_path / "repository").mkdir()
    main(arguments(tmp_path / "out.onnx", tmp_path / "repository", name="summing"))
    assert 'name: "points"' in (tmp_path / "repository" / "summing" / "config.pbtxt").read_text()

    def started(*arguments: object, **options: object) -> None:
        raise ConversionError("it was started")

    monkeypatch.setattr(converter, "run", started)
    main(argv)
    assert (results()[0]["conversion"], results()[0]["triton-model-navigator"]) == ("reused", said)
    shutil.rmtree(kept)
    with pytest.raises(ConversionError, match="it was started"):
        main(argv)


def test_the_librarys_last_words_are_the_error(
    command: list[str], summing_savedmodel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        run_entry_point(main, [*command, "-p", str(summing_savedmodel), *BY_LIBRARY, "--onnx-opsets", "99"])
    assert raised.value.code == 1
    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "ConvertSavedModel2ONNX: ValueError: make_sure failure: Opset 99 is not supported yet" in error
    kept = tmp_path / "workspace" / "converted" / "onnx-opset99-triton-model-navigator.kept"
    assert f"log: {kept}/output.log" in error
    assert {path.name for path in kept.iterdir()} == {"output.log", "output.log.err", "navigator.log"}
    assert {path.suffix for path in kept.parent.iterdir()} == {".kept", ".log"}


def test_options_of_tensorrt_are_those_of_the_librarys_api(tmp_path: Path) -> None:
    job = {"opset": 13, "precision": "fp16", "precision_mode": "hierarchy", "max_workspace_size_bytes": 1000}
    job |= {"profiles": {"x": [[1, 2], [4, 2], [8, 2]]}}
    code = "import json, runpy, sys; make = runpy.run_path(sys.argv[1])['_configs']\n"
    code += "for target in ('trt', 'tf-trt'): configs = make({**json.loads(sys.argv[2]), 'target': target}); "
    code += "print([one.format.value for one in configs], configs[-1].precision, configs[-1].trt_profiles)"
    argv: list[str | Path] = [converter.HOME / "bin" / "python", "-I", "-c", code, converter._START, json.dumps(job)]
    plan, tf_trt = run(argv, log_path=tmp_path / "log").stdout.splitlines()[-2:]
    assert "['onnx', 'trt'] (<TensorRTPrecision.FP16: 'fp16'>,)" in plan
    assert "add('x', min=(1, 2), opt=(4, 2), max=(8, 2))" in plan
    assert "['onnx', 'tf-trt'] (<TensorRTPrecision.FP16: 'fp16'>,)" in tf_trt


def test_interpreter_that_fails_before_the_library_is_told(
    command: list[str], summing_savedmodel: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(converter, "_MEMORY", 10**12)
    monkeypatch.setattr(converter, "_START", Path(__file__).with_name("none.py"))
    monkeypatch.setattr(converter.LibraryConverter, "origin", {})
    with pytest.raises(ConversionError, match=r"triton-model-navigator: .*can't open file .*none.py"):
        main([*command, "-p", str(summing_savedmodel), *BY_LIBRARY])
    assert "of memory for a model of this size" in caplog.text
