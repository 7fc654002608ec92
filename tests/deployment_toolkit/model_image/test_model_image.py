"""Which model repositories become images, and with which rows. tests/scripts/test_serving_image.py builds one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import Batch, Format, Host, ModelSpec, Prediction, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import DataError, DeploymentError
from deployment_toolkit.model_image.__main__ import main
from deployment_toolkit.model_image.kept_rows import require_rows_of
from deployment_toolkit.model_image.servable import servable_models
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter

SPEC = ModelSpec((TensorSpec("item", "int32", (1,), (0, 9)),), (TensorSpec("y", "float32", (1,)),))


def _deploy(repository: Path, format: Format = Format.OPENVINO, host: Host = Host.CPP) -> Path:
    """A model's folder with files that look like a model; nobody loads them here."""
    source = repository.parent / "source"
    source.mkdir(parents=True, exist_ok=True)
    names = {Format.OPENVINO: ["model.xml", "model.bin"], Format.ONNX: ["model.onnx"]}[format]
    for name in names:
        (source / name).write_text(name)
    return add_model(repository, Deployment("net", SPEC, format, host=host), source / names[0]).folder


def _dump(
    path: Path, items: tuple[int, ...] = (0, 9), output: str = "y", inputs: bool = True, dtype: str = "int32"
) -> Path:
    rows = len(items)
    x = {"item": np.array(items, dtype).reshape(-1, 1)}
    batch = Batch(np.arange(rows), x, {"clicked": np.zeros((rows, 1), np.int32)})
    with DumpWriter(DumpOptions(path, dump_labels=True, dump_inputs=inputs)) as dump:
        dump.write(Prediction(batch, {output: np.zeros((rows, 1), np.float32)}))
    return path


@pytest.mark.parametrize(
    ("format", "host"), [(Format.OPENVINO, Host.CPP), (Format.OPENVINO, Host.NATIVE), (Format.ONNX, Host.NATIVE)]
)
def test_models_of_an_engine_that_an_image_has_can_be_served(format: Format, host: Host, tmp_path: Path) -> None:
    _deploy(tmp_path / "models", format, host)
    (model,) = servable_models(tmp_path / "models")
    assert model.folder.name == model.config.name == "net"
    assert model.is_hosted == (host is Host.CPP)
    assert require_rows_of(_dump(tmp_path / "rows"), [model]) == 2


def _replace(old: str, new: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        text = (folder / "config.pbtxt").read_text()
        assert old in text
        (folder / "config.pbtxt").write_text(text.replace(old, new))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "holds no model: give the folder that holds the models' folders"),
        (lambda folder: (folder / "config.pbtxt").unlink(), "net has no config.pbtxt: deploy it"),
        (lambda folder: folder.rename(folder.with_name("other")), "is of the model 'net': name its folder so"),
        (_replace("versions: 1", "versions: 2"), "net has no version 2, which its configuration names: deploy it"),
        (lambda folder: shutil.rmtree(folder / "1"), "net has no version 1, which its configuration names"),
        (lambda folder: (folder / "1" / "model.bin").unlink(), "model.bin is missing: deploy the model again"),
        (lambda folder: (folder / "1" / "model.bin").write_text("?"), "model.bin is not the file that was deployed"),
        (_replace('"model.xml"', '"other.xml"'), "1 has no other.xml, which the configuration names"),
        (
            _replace('name: "net"', 'name: "net"\nparameters { key: "extra" value { string_value: "/opt/x.so" } }'),
            r"config.pbtxt names /opt/x.so of this host \(parameters.extra.string_value\): put the file into",
        ),
        (
            _replace("instance_group {", 'ensemble_scheduling { step { model_name: "first" } }\ninstance_group {'),
            "passes requests to first, which is not in .*: deploy it too",
        ),
    ],
)
def test_what_could_not_be_loaded_elsewhere_is_refused(
    damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    damage(_deploy(tmp_path / "models"))
    with pytest.raises(DeploymentError, match=message) as told:
        servable_models(tmp_path / "models")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("format", "host", "message"),
    [
        (Format.ONNX, Host.CPP, "is of the format onnx, for which the C\\+\\+ host of the serving image has no engine"),
        (Format.OPENVINO, Host.PYTHON, "runs in a process of Python, with packages of this host"),
    ],
)
def test_hosts_that_no_serving_image_has_are_refused(format: Format, host: Host, message: str, tmp_path: Path) -> None:
    _deploy(tmp_path / "models", format, host)
    with pytest.raises(DeploymentError, match=message):
        servable_models(tmp_path / "models")


@pytest.mark.parametrize(
    ("dumped", "message"),
    [
        ({"items": (0, 10)}, "is of no model here .net: .*item.* 10"),
        ({"output": "other"}, r"is of no model here \(net: its outputs are \['y'\], the dump's \['other'\]\)"),
        ({"dtype": "int64"}, "is of no model here .net: input item is int64"),
        ({"inputs": False}, "has no inputs: make it with run_inference_on_fw.py --dump-inputs --dump-labels"),
    ],
)
def test_rows_that_the_model_does_not_take_are_refused(dumped: dict[str, object], message: str, tmp_path: Path) -> None:
    _deploy(tmp_path / "models")
    rows = _dump(tmp_path / "rows", **dumped)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        require_rows_of(rows, servable_models(tmp_path / "models"))


@pytest.mark.parametrize("tag", ["registry/net", "registry:5000/net", "registry/net:latest"])
def test_an_image_needs_a_version(tag: str, tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="does not tell one image from the next: give a name with a version"):
        main([str(_deploy(tmp_path / "models").parent), tag, "--reference-dump-dir", str(_dump(tmp_path / "rows"))])
