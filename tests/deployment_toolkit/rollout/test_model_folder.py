from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.core import ModelSpec, TensorSpec
from deployment_toolkit.deploying.ensemble import Ensemble, EnsembleStep
from deployment_toolkit.errors import ModelError, UsageError
from deployment_toolkit.rollout.model_folder import (
    ModelFolder,
    config_as,
    digest_of,
    ensembles_with,
    require_fit,
    why_not_beside,
)
from tests.offset_models import NAME, add_offset_model, offset_config

OPTIONAL = 'input [ { name: "z" data_type: TYPE_FP32 dims: [ 1 ] optional: true } ]'


@pytest.fixture
def live(tmp_path: Path) -> ModelFolder:
    return ModelFolder.read(add_offset_model(tmp_path / "live", 0))


def changed(tmp_path: Path, old: str = "", new: str = "", config: str = "") -> ModelFolder:
    text = config or offset_config().replace(old, new)
    return ModelFolder.read(add_offset_model(tmp_path / "new", 1, config=text))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('input [ { name: "x"', 'input [ { name: "x2"', r"input x is missing instead of TYPE_FP32 \[1\]"),
        (
            "TYPE_FP32 dims: [ 1 ] } ]\nout",
            "TYPE_FP64 dims: [ 1 ] } ]\nout",
            r"x is TYPE_FP64 \[1\] instead of TYPE_FP32",
        ),
        (
            '"y" data_type: TYPE_FP32 dims: [ 1 ]',
            '"y" data_type: TYPE_FP32 dims: [ 2 ]',
            r"output y is TYPE_FP32 \[2\]",
        ),
        ("output [", f"{OPTIONAL}\noutput [", r"input z is TYPE_FP32 \[1\], optional instead of missing"),
        ("max_batch_size: 64", "max_batch_size: 32", "max_batch_size is 32 instead of 64"),
    ],
)
def test_candidate_that_takes_other_requests_is_refused(
    tmp_path: Path, live: ModelFolder, old: str, new: str, message: str
) -> None:
    with pytest.raises(ModelError, match=f"requests that fit now would fail or mean something else: .*{message}"):
        require_fit(changed(tmp_path, old, new), live)


def test_candidate_may_take_more_ids_but_not_fewer(tmp_path: Path, live: ModelFolder) -> None:
    wider = changed(tmp_path, config=offset_config((-1, 2000)))
    require_fit(wider, live)
    with pytest.raises(ModelError, match="input x takes 0 to 999 instead of -1 to 2000"):
        require_fit(live, wider)
    assert why_not_beside(wider.config, live.config) == "parameters", "the old version would take ids it has no row for"
    x, y = TensorSpec("x", "float32", (1,)), TensorSpec("y", "float32", (1,))
    unbounded = ModelFolder.read(
        add_offset_model(tmp_path / "any", 1, config=offset_config(spec=ModelSpec((x,), (y,))))
    )
    require_fit(unbounded, live)
    with pytest.raises(ModelError, match="input x takes 0 to 999 instead of any value"):
        require_fit(live, unbounded)


def test_packed_inputs_keep_their_columns(tmp_path: Path, live: ModelFolder) -> None:
    def packed(**widths: int) -> ModelFolder:
        columns = tuple(TensorSpec(name, "float32", (width,)) for name, width in widths.items())
        spec = ModelSpec((TensorSpec("x", "float32", (3,), columns=columns),), (TensorSpec("y", "float32", (1,)),))
        place = tmp_path / "_".join(f"{name}{width}" for name, width in widths.items())
        return ModelFolder.read(add_offset_model(place, 0, config=offset_config(spec=spec)))

    ours = packed(age=1, price=2)
    require_fit(ours, ours)
    for other in (packed(price=2, age=1), packed(age=2, price=1)):
        with pytest.raises(ModelError, match="its packed inputs have other columns"):
            require_fit(other, ours)


def test_versions_share_what_does_not_concern_their_files(tmp_path: Path, live: ModelFolder) -> None:
    assert why_not_beside(changed(tmp_path, "count: 1", "count: 3").config, live.config) is None
    other = offset_config().replace('"python"', '"onnxruntime"').replace("model.py", "model.onnx")
    other_backend = ModelFolder.read(add_offset_model(tmp_path / "other", 1, config=other))
    assert why_not_beside(other_backend.config, live.config) == "backend, default_model_filename"


def test_ensembles_of_a_model_are_found(tmp_path: Path, live: ModelFolder) -> None:
    spec = ModelSpec((TensorSpec("x", "float32", (1,)),), (TensorSpec("y", "float32", (1,)),))
    both = Ensemble(
        "both", (EnsembleStep("other", 1, ModelSpec(spec.inputs, spec.inputs)), EnsembleStep(NAME, 1, spec)), 8
    )
    folder = live.path.parent / "both"
    folder.mkdir()
    (folder / "config.pbtxt").write_text(both.package.config)
    (live.path.parent / "broken").mkdir()
    (live.path.parent / "broken" / "config.pbtxt").write_text("{")
    assert ensembles_with(live.path.parent, NAME) == ["both"]
    assert ensembles_with(live.path.parent, "both") == []
    with pytest.raises(
        ModelError, match="is an ensemble, and no roll-out replaces one or its models: deploy the new ensemble and"
    ):
        ModelFolder.read(folder)


def test_candidate_has_one_version_and_a_policy(tmp_path: Path, live: ModelFolder) -> None:
    assert (live.only_version(), live.policy()) == (1, (1,))
    (live.path / "2").mkdir()
    with pytest.raises(UsageError, match="holds versions 1, 2: a candidate has the folder of one version"):
        live.only_version()
    latest = changed(tmp_path, "version_policy { specific { versions: [ 1 ] } }", "")
    with pytest.raises(ModelError, match="does not say which versions are served"):
        latest.policy()


def test_digest_changes_with_every_part(tmp_path: Path, live: ModelFolder) -> None:
    def digest() -> str:
        folder = ModelFolder.read(live.path)
        return digest_of(folder.package(1, name="candidate", number=2, policy=[2]))

    found = [digest()]
    for path, text in (
        (live.path / "1" / "behaviour.json", '{"offset": 5}'),
        (live.path / "1" / "model.py", "# another"),
        (live.path / "config.pbtxt", live.text.replace("count: 1", "count: 3")),
        (live.path / "warmup" / "input_0", "row"),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        found.append(digest())
    assert len(set(found)) == len(found)
    assert config_as(ModelFolder.read(live.path).config, "a", [1, 2]).count("versions:") == 2
