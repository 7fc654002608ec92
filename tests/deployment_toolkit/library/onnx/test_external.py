"""ONNX files with weights in other files, of any name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from deployment_toolkit.core import Arrays, Format, ModelSpec, Precision, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_repository import add_model
from deployment_toolkit.errors import ConversionError, ModelError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.library import registry
from deployment_toolkit.library.base import CopyModel
from deployment_toolkit.library.model_files import fingerprint_of, stored_bytes
from deployment_toolkit.library.onnx import writing
from deployment_toolkit.library.onnx.external import external_files
from deployment_toolkit.rows.sample import random_rows
from tests.limits import few_resources

Store = Callable[..., Path]
NAMES = ("model.onnx.data", "model.onnx_data", "weights.bin", "parts/of it/w")
SPEC = ModelSpec((TensorSpec("x", "float32", (6,)),), (TensorSpec("y", "float32", (1,)),))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Writes ``given/model.onnx``: y = (x A + b) C, with its weights in the named files, in turn."""

    def write(*names: str, prefix: bytes = b"") -> Path:
        random = np.random.default_rng(3)
        shapes = {"A": (6, 5), "b": (5,), "C": (5, 1), "none": (0,)}
        arrays = {name: random.random(shape, np.float32) for name, shape in shapes.items()}
        nodes = [
            helper.make_node("MatMul", ["x", "A"], ["xa"]),
            helper.make_node("Add", ["xa", "b"], ["xab"]),
            helper.make_node("MatMul", ["xab", "C"], ["y"]),
        ]
        x, y = (
            helper.make_tensor_value_info(tensor.name, TensorProto.FLOAT, ["batch", *tensor.shape])
            for tensor in (*SPEC.inputs, *SPEC.outputs)
        )
        weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        graph = helper.make_graph(nodes, "g", [x], [y], weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        folder = tmp_path / "given"
        folder.mkdir()
        for number, tensor in enumerate(model.graph.initializer if names else ()):
            file = folder / names[number % len(names)]
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("ab") as data:
                data.write(prefix)
                place = data.tell()
                data.write(tensor.raw_data)
            length = len(tensor.raw_data)
            external_data_helper.set_external_data(tensor, names[number % len(names)], place, length)
            tensor.ClearField("raw_data")
        onnx.save(model, str(folder / "model.onnx"))
        return folder / "model.onnx"

    return write


def answers(path: Path, model_format: Format = Format.ONNX) -> Any:
    session = registry.loader(model_format)().load(path)
    return session.infer({session.spec.inputs[0].name: random_rows(SPEC, 7, 1)["x"]})


def expected(path: Path) -> Arrays:
    """The model's answers, computed with numpy."""
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}
    return {"y": (random_rows(SPEC, 7, 1)["x"] @ tensors["A"] + tensors["b"]) @ tensors["C"]}


def move(path: Path) -> None:
    """Takes the source away: a copy that still needs it fails."""
    shutil.move(path.parent, path.parent.with_name("gone"))


@pytest.mark.parametrize("names", [*((name,) for name in NAMES), NAMES], ids="|".join)
def test_weights_come_into_the_repository_with_the_file(names: tuple[str, ...], store: Store, tmp_path: Path) -> None:
    source = store(*names, prefix=b"before")
    wanted = expected(source)
    assert set(external_files(source)) == set(names)
    deployment, repository = Deployment("served", SPEC, Format.ONNX), tmp_path / "repository"
    folder = add_model(repository, deployment, source).folder / "1"
    assert add_model(repository, deployment, source).copied is False
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"model.onnx", "SHA256SUMS", *names}
    move(source)
    np.testing.assert_allclose(answers(folder / "model.onnx")["y"], wanted["y"], rtol=1e-6)

    linked = add_model(repository, Deployment("second", SPEC, Format.ONNX), folder / "model.onnx", links=True)
    for name in names:
        assert (linked.folder / "1" / name).samefile(folder / name)


@pytest.mark.parametrize("most_bytes", [10**9, 300])
@pytest.mark.parametrize("step", ["copy", "fp32", "rename", "pack"])
def test_weights_stay_with_a_changed_file(
    step: str, most_bytes: int, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "MOST_BYTES", most_bytes)
    source, target = store(*NAMES), tmp_path / "made" / "out"
    steps: dict[str, Any] = {
        "copy": CopyModel(),
        "fp32": registry.converter(Format.ONNX, Format.ONNX)(precision=Precision.FP32),
        "rename": registry.renamer(Format.ONNX)(inputs={"x": "numbers"}, outputs={}),
        "pack": registry.packer(Format.ONNX)(),
    }
    wanted = expected(source)
    with replace_when_complete(target) as beside:
        steps[step].convert(source, beside)
    assert [path.name for path in sorted(target.parent.iterdir())] == ["out", "out.data"][: 1 + (most_bytes == 300)]
    move(source)
    np.testing.assert_allclose(answers(target)["y"], wanted["y"], rtol=1e-6)
    again = tmp_path / "copied"
    with replace_when_complete(again) as beside:
        CopyModel().convert(target, beside)
    move(target)
    np.testing.assert_allclose(answers(again)["y"], wanted["y"], rtol=1e-6)


def test_openvino_gets_the_weights(store: Store, tmp_path: Path) -> None:
    source, target = store(*NAMES), tmp_path / "made.openvino"
    wanted = expected(source)
    registry.converter(Format.ONNX, Format.OPENVINO)().convert(source, target)
    move(source)
    np.testing.assert_allclose(answers(target, Format.OPENVINO)["y"], wanted["y"], rtol=1e-5)


def test_xml_file_is_copied_with_its_weights(store: Store, tmp_path: Path) -> None:
    source = store()
    registry.converter(Format.ONNX, Format.OPENVINO)().convert(source, tmp_path / "made.openvino")
    CopyModel().convert(tmp_path / "made.openvino" / "model.xml", tmp_path / "copy.openvino")
    assert answers(tmp_path / "copy.openvino", Format.OPENVINO)["y"].shape == (7, 1)


def test_weights_count_in_fingerprint_and_size(store: Store) -> None:
    source = store("weights.bin")
    before, weights = fingerprint_of(source), source.with_name("weights.bin")
    assert stored_bytes(source) == source.stat().st_size + weights.stat().st_size
    changed = bytearray(weights.read_bytes())
    changed[5] ^= 1
    weights.write_bytes(bytes(changed))
    assert fingerprint_of(source) != before


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../weights.bin", r"keeps weights in '\.\./weights\.bin', which is not in its folder: save it"),
        ("/etc/passwd", r"keeps weights in '/etc/passwd', which is not in its folder"),
        ("a/../../b", r"which is not in its folder"),
        ("", r"which is not in its folder"),
        ("missing.bin", r"keeps weights in .*/given/missing\.bin, which is missing: copy it there too"),
        ("short.bin", r"keeps weights in .*short\.bin, which has 3 of \d+ bytes: copy it again"),
        ("model.py", r"keeps weights in model\.py, a name that the server needs: save it with another name"),
    ],
)
def test_weights_elsewhere_are_refused(location: str, message: str, store: Store, tmp_path: Path) -> None:
    source = store("weights.bin")
    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = location
    onnx.save(model, str(source))
    source.with_name("short.bin").write_bytes(b"123")
    shutil.copyfile(source.with_name("weights.bin"), source.with_name("model.py"))
    with pytest.raises(ModelError, match=message):
        add_model(tmp_path / "repository", Deployment("served", SPEC, Format.ONNX), source)
    assert not (tmp_path / "repository").exists()
    if location != "model.py":
        with pytest.raises(ModelError, match=message):
            registry.loader(Format.ONNX)().load(source)


def test_positions_are_found_wherever_tensors_are(tmp_path: Path) -> None:
    """In graphs of nodes, attributes, functions and sparse tensors; a file that only looks alike has none."""

    def external(name: str) -> TensorProto:
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
        for key, value in (("location", name), ("offset", "4"), ("length", "4")):
            tensor.external_data.add(key=key, value=value)
        return tensor

    inner = helper.make_graph([], "inner", [], [], [external("inner")])
    nodes = [
        helper.make_node("If", ["c"], ["d"], then_branch=inner),
        helper.make_node("Constant", [], ["e"], value=external("attribute")),
    ]
    sparse = helper.make_sparse_tensor(external("values"), external("indices"), [4])
    graph = helper.make_graph(nodes, "g", [], [], [external("outer")], sparse_initializer=[sparse])
    function = helper.make_function(
        "d", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=external("function"))], []
    )
    model = helper.make_model(graph, functions=[function])
    names = {"inner", "attribute", "values", "indices", "outer", "function"}
    for name in names:
        (tmp_path / name).write_bytes(bytes(8))
    (tmp_path / "model").write_bytes(model.SerializeToString())
    assert set(external_files(tmp_path / "model")) == names
    for content in (b"", b"no message", model.SerializeToString()[:-3], b"\x3a" * 1000, b"\xff" * 2**20):
        (tmp_path / "other").write_bytes(content)
        with few_resources():
            assert external_files(tmp_path / "other") == {}


@pytest.mark.parametrize("offset", ["-1", "9" * 5000])
def test_a_position_that_is_no_number_is_refused(store: Store, offset: str) -> None:
    source = store("weights.bin")
    model = onnx.load(str(source), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "offset":
            entry.value = offset
    onnx.save(model, str(source))
    with pytest.raises(ModelError, match=r"keeps weights in weights\.bin at '(-1|9{30})', '\d+' bytes: save it anew"):
        external_files(source)


def test_a_model_that_a_step_cannot_take_whole_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    source = store("weights.bin")
    monkeypatch.setattr(writing, "MOST_BYTES", 300)
    with pytest.raises(ConversionError, match=r"2 GiB that this step can take: convert the model to openvino"):
        registry.converter(Format.ONNX, Format.ONNX)(precision=Precision.FP16).convert(source, source.with_name("fp16"))
