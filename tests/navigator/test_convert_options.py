"""Options of ``convert``, with real conversions: chains, GPU formats, shapes, names, containers, a file of defaults."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit import hardware
from deployment_toolkit.core import Format
from deployment_toolkit.errors import ConversionError, DeploymentError, InputError, UsageError
from deployment_toolkit.library import registry
from deployment_toolkit.rows.sample import random_rows
from navigator.__main__ import main

TinyOnnx = Callable[..., Path]
Results = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a GPU."""
    monkeypatch.setattr(hardware, "gpu_names", list)


def test_openvino_is_made_through_onnx_with_equal_answers(
    command: list[str],
    tiny_savedmodel: Path,
    real_rows: list[str],
    tmp_path: Path,
    results: Results,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    targets = ["--target-formats", "openvino", "onnx", "--target-precisions", "fp32"]
    main([*command, "-p", str(tiny_savedmodel), *real_rows, *targets])
    openvino, through = results()
    assert (openvino["name"], through["name"]) == ("openvino-opset13-fp32", "onnx-opset13")
    assert [entry["status"]["state"] for entry in (openvino, through)] == ["succeeded", "succeeded"]
    assert (through["conversion"], through["comparison"]) == ("made", "made")
    assert "converting" in (tmp_path / "workspace" / "converted" / "onnx-opset13.log").read_text()
    assert (tmp_path / "out.onnx" / "model.xml").is_file()


def test_failed_intermediate_step_is_named(command: list[str], tiny_savedmodel: Path) -> None:
    options = ["--target-formats", "openvino", "--onnx-opsets", "99"]
    with pytest.raises(ConversionError, match="openvino-opset99-fp32: onnx-opset99, on the way, failed: tf2onnx"):
        main([*command, "-p", str(tiny_savedmodel), *options])


def test_gpu_formats_fail_without_a_gpu_and_others_are_made(
    no_gpu: None, command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path, results: Results
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    main([*command, "-p", str(path), "--target-formats", "trt", "onnx"])
    plan, copy = results()
    assert plan["status"]["state"] == "failed" and "trt needs an NVIDIA GPU" in plan["status"]["message"]
    assert "needs an NVIDIA GPU" in Path(plan["status"]["log_path"]).read_text()
    assert copy["status"]["state"] == "succeeded"
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()


def test_gpu_formats_alone_fail_at_once_without_a_gpu(
    no_gpu: None, command: list[str], tiny_savedmodel: Path, tmp_path: Path, results: Results
) -> None:
    rows = tmp_path / "rows.py"
    rows.write_text("def get_dataloader_fn():\n    raise AssertionError('rows were read')\n")
    options = ["--target-formats", "trt", "tf-trt", "--dataloader", str(rows)]
    with pytest.raises(ConversionError, match="tf-trt-fp32: a conversion to trt and tf-trt needs an NVIDIA GPU"):
        main([*command, "-p", str(tiny_savedmodel), *options])
    assert [entry["status"]["state"] for entry in results()] == ["failed", "failed"]
    assert not (tmp_path / "out.onnx").exists()


def test_shape_options_bound_the_compared_rows(
    command: list[str], open_model: Path, results: Results, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(DeploymentError, match=r"input x has rows of any shape \[-1\]"):
        main([*command, "-p", str(open_model)])
    shapes = ["--min-shapes", "x=2,3", "--opt-shapes", "x=8,4", "--max-shapes", "x=16,5"]
    main([*command, "-p", str(open_model), *shapes, "--value-ranges", "0.5,1.5", "--dtypes", "float32"])
    assert "comparing on batches of [2, 8, 16] random rows" in caplog.text
    assert results()[0]["status"]["message"] == "26 rows agree, largest difference 0"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--dtypes", "x=float64"], UsageError, "--dtypes x=float64: the model takes float32 there"),
        (["--dtypes", "int32"], UsageError, "--dtypes int32: the model's input x takes float32"),
        (["--value-ranges", "z=0,1"], UsageError, "--value-ranges z=0,1: the model has no input z, only x"),
        (["--inputs", "z:-1,3:float32"], UsageError, "the model has no input z, only x"),
        (["--inputs", "x:-1,3:int32"], UsageError, "the model's input x is -1,-1:float32"),
        (["--inputs", "a=x:-1,3:float32", "b=x:-1,3:float32"], UsageError, "--inputs names x twice"),
        (["--max-shapes", "x=3,3,3"], UsageError, "the model takes batch,-1 there"),
        (["--max-shapes", "x=3;3"], UsageError, "3;3 is no shape"),
        (["--max-shapes", "x=8,2", "--dataloader", "rows.py"], InputError, r"have the shape \[3\], outside"),
        (["--value-ranges", "0,1", "--dataloader", "rows.py"], InputError, "from 7 to 7, outside its --value-ranges"),
        (["--tensorrt-max-workspace-size", "0"], UsageError, "must be at least 1, not 0"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(
    options: list[str],
    error: type[DeploymentError],
    message: str,
    command: list[str],
    open_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.py").write_text(
        "import numpy as np\n"
        "def get_dataloader_fn():\n"
        "    return lambda: iter([(np.zeros(4), {'x': np.full((4, 3), 7, np.float32)}, {})])\n"
    )
    with pytest.raises(error, match=message):
        main([*command, "-p", str(open_model), *options])
    assert not (tmp_path / "workspace").exists()


def test_value_ranges_of_ids_are_integers_inside_those_of_the_model(
    command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path
) -> None:
    path = str(tiny_onnx(tmp_path / "model.onnx"))
    with pytest.raises(UsageError, match=r"item=0.5,1: input item takes ids, give whole numbers"):
        main([*command, "-p", path, "--value-ranges", "item=0.5,1"])
    with pytest.raises(UsageError, match=r"item=0,10: the model takes 0 .. 9 there"):
        main([*command, "-p", path, "--value-ranges", "item=0,10"])


RENAMED = [
    *("--inputs", "cost=price:-1,1:float32", "zone=ad:-1,1:int32", "ad=zone:-1,1:int32"),
    *("--outputs", "probability=wide_deep_model:-1,1:float32"),
]


@pytest.mark.parametrize("target", [Format.ONNX, Format.TF_SAVEDMODEL])
def test_tensors_are_renamed_by_option(
    target: Format, command: list[str], tiny_savedmodel: Path, real_rows: list[str], tmp_path: Path, results: Results
) -> None:
    options = [*RENAMED, "--target-formats", str(target), "--atol", "probability=1e-5", *real_rows]
    main([*command, "-p", str(tiny_savedmodel), *options])
    assert results()[0]["status"]["message"].startswith("41 rows agree")
    made = registry.loader(target)().load(tmp_path / "out.onnx")
    source = registry.loader(Format.TF_SAVEDMODEL)().load(tiny_savedmodel)
    assert [tensor.name for tensor in made.spec.inputs] == ["ad", "ad_age", "cost", "tags", "zone"]
    assert (made.spec.value_ranges["ad"], made.spec.value_ranges["zone"]) == ((0, 5), (0, 19))
    x = random_rows(source.spec, 20, seed=3)
    renamed = {**x, "cost": x["price"], "zone": x["ad"], "ad": x["zone"]}
    del renamed["price"]
    expected = source.infer(x)["wide_deep_model"]
    np.testing.assert_allclose(made.infer(renamed)["probability"], expected, rtol=0, atol=1e-6)


def test_new_tensor_name_must_be_free(command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path) -> None:
    path = str(tiny_onnx(tmp_path / "model.onnx"))
    with pytest.raises(ConversionError, match=r"has a tensor looked_up inside: choose another new name"):
        main([*command, "-p", path, "--inputs", "looked_up=item:-1,1:int32"])
    with pytest.raises(UsageError, match=r"--inputs: two inputs would be named amount"):
        main([*command, "-p", path, "--inputs", "amount=item:-1,1:int32"])


def test_container_options_without_effect_are_logged(
    command: list[str], tiny_onnx: TinyOnnx, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    containers = ["--container-version", "24.08", "--framework-docker-image", "a", "--triton-docker-image", "b"]
    options = [*containers, "--gpus", "0", "1", "--override-conversion-container", "--model-version", "3"]
    main([*command, "-p", str(tiny_onnx(tmp_path / "model.onnx")), *options])
    assert (
        "--container-version, --framework-docker-image, --triton-docker-image, --gpus, "
        "--override-conversion-container: no effect here, containers are for --launch-mode docker"
    ) in caplog.text


def test_config_file_may_name_a_plugin_and_its_options(
    command: list[str], tiny_savedmodel: Path, real_rows: list[str], tmp_path: Path, results: Results
) -> None:
    loader, pattern, spec = real_rows[1::2]
    (tmp_path / "options.yaml").write_text(
        f"dataloader: {loader}\ndata-pattern: {pattern}\nfeature_spec: {spec}\nmax-batch-size: 64\nverbose: true\n"
        "target_precisions: [fp32]\ntarget_precisions_mode: single\nmax_workspace_size: 8589934592\n"
        "atol: {'': 1e-5, wide_deep_model: 1e-4}\nmin_shapes: {ad: [2, 1]}\n"
        "inputs:\n  cost: {name: price, shape: [-1, 1], dtype: float32}\n"
    )
    level = logging.getLogger().level
    try:
        main([*command, "-p", str(tiny_savedmodel), "--config-path", str(tmp_path / "options.yaml")])
        assert logging.getLogger().level == logging.DEBUG
    finally:
        logging.getLogger().setLevel(level)
    assert results()[0]["status"]["message"].startswith("74 rows agree")  # 2, 8 and 64
    assert "cost" in {tensor.name for tensor in registry.loader(Format.ONNX)().read_spec(tmp_path / "out.onnx").inputs}


def test_config_file_with_an_unknown_plugin_option_is_refused(
    command: list[str], tiny_savedmodel: Path, real_rows: list[str], tmp_path: Path
) -> None:
    (tmp_path / "options.yaml").write_text(f"dataloader: {real_rows[1]}\ndata_patern: x\n")
    with pytest.raises(UsageError, match="unknown key data_patern, did you mean data_pattern?"):
        main([*command, "-p", str(tiny_savedmodel), "--config-path", str(tmp_path / "options.yaml")])


def test_conversion_stays_in_the_workspace_without_an_output_path(
    tiny_onnx: TinyOnnx, tmp_path: Path, results: Results
) -> None:
    path = tiny_onnx(tmp_path / "model.onnx")
    main(
        ["convert", "--model-name", "tiny", "--model-path", str(path), "--workspace-path", str(tmp_path / "workspace")]
    )
    assert Path(results()[0]["path"]).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["convert", "triton-config-model"])
def test_help_explains_shared_options_for_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = "".join(capsys.readouterr().out.split())  # lines are broken at hyphens too
    notes = {
        "convert": ["noted in the results only", "for --launch-mode docker only", "for the targets trt and tf-trt"],
        "triton-config-model": ["the folder it gets", "no effect here, for convert", "for --backend-accelerator trt"],
    }
    assert all(note.replace(" ", "") in text for note in notes[name])
