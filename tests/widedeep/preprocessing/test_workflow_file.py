"""Workflow files: what they hold, who can read them, and how others are refused."""

from __future__ import annotations

import hashlib
import json
import pickle
import pickletools
import platform
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import DataError
from widedeep.data.parquet import ParquetDataset
from widedeep.data.raw_parquet import RawParquet
from widedeep.features.spec import load_feature_spec
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.documents import hash_ids
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.raw_features import RawFeatures, load_raw_features
from widedeep.preprocessing.workflow_file import METADATA, PICKLE, load_workflow, save_workflow
from widedeep.synthetic import SyntheticOptions, generate

KEPT = ROOT / "tests" / "kept" / "workflow_with_arrays.tar.xz"
_OTHER_PYTHON = "3.4.1 (default, Jan  1 2015)"
_REMEDY = r"make it again with scripts/preproc\.sh --raw-dir"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small preprocessed data set; not to be changed."""
    folder = tmp_path_factory.mktemp("workflow")
    generate(SyntheticOptions(folder / "raw", 300, seed=5))
    preprocess(PreprocessingOptions(folder / "raw", folder / "data"))
    return folder / "data"


@pytest.fixture
def folder(data: Path, tmp_path: Path) -> Path:
    """A copy of the data set's workflow, to be changed."""
    return Path(shutil.copytree(data / "workflow", tmp_path / "workflow"))


def test_metadata_names_what_the_workflow_was_made_with(data: Path) -> None:
    description = json.loads((data / "workflow" / METADATA).read_text())
    versions = description["versions"]
    assert versions["python"].split()[0] == platform.python_version()
    assert (versions["numpy"], versions["pandas"]) == (np.__version__, pd.__version__)
    assert {"nvtabular", "merlin-core", "scipy"} < versions.keys()


def test_pickle_holds_names_of_libraries_only_and_no_code(data: Path) -> None:
    modules = _modules((data / "workflow" / PICKLE).read_bytes())
    assert {"nvtabular", "merlin", "widedeep"} <= modules <= {"nvtabular", "merlin", "widedeep", "numpy", "scipy"}


def test_workflow_with_a_lambda_is_not_written(tmp_path: Path) -> None:
    nvtabular = import_nvtabular()
    workflow = nvtabular.Workflow(["a"] >> nvtabular.ops.LambdaOp(lambda column: column + 1))
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        save_workflow(workflow, tmp_path / "workflow")
    assert not list(tmp_path.iterdir())


def test_tables_are_sorted_arrays_beside_the_pickle(data: Path) -> None:
    folder = data / "workflow"
    arrays = {path.name.removesuffix(".npy"): np.load(path) for path in (folder / "tables").iterdir()}
    assert json.loads((folder / METADATA).read_text())["tables"].keys() == arrays.keys()
    for name in ("ad_id.ids", "publisher_id_promo.ids", "topics.documents", "entities.documents"):
        assert arrays[name].dtype == np.int64 and (np.diff(arrays[name]) > 0).all() and len(arrays[name]) > 20
    counts = arrays["ad_id.counts"]
    assert counts.dtype == np.int64 and counts.shape == (len(arrays["ad_id.ids"]) + 1, 2)
    assert (counts[:-1, 1] >= 1).all() and (counts[:, 0] <= counts[:, 1]).all() and not counts[-1].any()
    starts, weights = arrays["topics.starts"], arrays["topics.weights"]
    assert len(starts) == len(arrays["topics.documents"]) + 2 and starts[-1] == starts[-2] == len(weights)
    np.testing.assert_allclose(np.add.reduceat(weights**2, starts[:-2]), 1)
    assert len(arrays["topics.buckets"]) == len(starts) - 1
    assert (folder / PICKLE).stat().st_size < 50_000


def test_pickle_for_another_process_holds_the_place_of_the_tables(data: Path, tmp_path: Path) -> None:
    workflow = load_workflow(data / "workflow")
    sent = pickle.dumps(workflow)
    assert len(sent) < 50_000
    received = pickle.loads(sent)
    spec = load_feature_spec(data / "feature_spec.yaml")
    assert _answers_of(RawFeatures(received, spec)) == _answers(data / "workflow", data)
    save_workflow(received, tmp_path / "again")  # without labels, the rest as it was
    assert _answers(tmp_path / "again", data) == _answers(data / "workflow", data)
    for path in (data / "workflow" / "tables").iterdir():
        assert (tmp_path / "again" / "tables" / path.name).read_bytes() == path.read_bytes()


def test_same_ids_have_the_same_buckets_in_every_version_of_pandas() -> None:
    strings = np.array(["", "US>CA>807", "São Paulo"], dtype=object)
    assert hash_ids(strings, 2**31 - 1).tolist() == [117540559, 634061662, 1801441415]
    assert hash_ids(pd.Series(strings.tolist()).to_numpy(), 2**31 - 1).tolist() == [117540559, 634061662, 1801441415]
    assert hash_ids(np.array([-1, 0, 59218, 2**40]), 2**31 - 1).tolist() == [1550608759, 0, 1002831218, 2105347926]


def test_file_of_another_python_is_read_if_it_holds_no_code(data: Path, folder: Path) -> None:
    _describe(folder, python=_OTHER_PYTHON, pandas="1.5.3", numpy="1.26.4")
    assert _answers(folder, data) == _answers(data / "workflow", data)


def test_bytecode_of_another_python_is_refused_before_it_runs(folder: Path) -> None:
    _write(folder, cloudpickle.dumps(lambda: None))
    with pytest.raises(DataError, match="holds a function, no NVTabular workflow"):
        load_workflow(folder)
    _describe(folder, python=_OTHER_PYTHON)
    with pytest.raises(DataError, match=rf"bytecode.* made with Python 3\.4\.1, .* here is Python 3\.\d+.*: {_REMEDY}"):
        load_workflow(folder)


def test_objects_of_another_pandas_are_refused(folder: Path) -> None:
    _write(folder, pickle.dumps(pd.Series([1.0])))
    _describe(folder, pandas="1.5.3")
    with pytest.raises(DataError, match=rf"objects of pandas, .* pandas 1\.5\.3, .*: {_REMEDY}"):
        load_workflow(folder)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of an earlier version of this project, and its validation rows before preprocessing."""
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(KEPT) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_workflow_with_arrays_in_its_pickle_is_read(kept: Path) -> None:
    _compare_features(kept, load_workflow(kept / "data" / "workflow"))


def test_file_that_nvtabular_wrote_with_an_earlier_layout_of_this_project_is_read(kept: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(kept / "data" / "workflow", tmp_path / "workflow"))
    earlier = current = (folder / PICKLE).read_bytes()
    for name in ("documents", "nvt_operators"):
        earlier = earlier.replace(_text(f"widedeep.preprocessing.{name}"), _text(f"widedeep.{name}"))
    assert earlier != current
    (folder / PICKLE).write_bytes(_unframed(earlier))
    (folder / METADATA).write_text(json.dumps({"versions": {"nvtabular": "23.08.00", "python": _OTHER_PYTHON}}))
    _compare_features(kept, load_workflow(folder))

    _write(folder, b"\x80\x04" + _text("widedeep.workflow") + _text("_state") + b"\x93.")
    with pytest.raises(DataError, match="holds a function, no"):  # it was found under its present name
        load_workflow(folder)


@pytest.mark.filterwarnings("ignore:Initializing an NVTabular Dataset in CPU mode")
def test_file_that_nvtabular_wrote_is_read_in_another_folder_with_the_files_of_its_operators(tmp_path: Path) -> None:
    nvtabular = import_nvtabular()
    ops = nvtabular.ops
    rows = nvtabular.Dataset(pd.DataFrame({"word": ["x", "y", "x"] * 4, "number": [1.0, np.nan, 3.0] * 4}))
    graph = (["word"] >> ops.Categorify(out_path=str(tmp_path))) + (["number"] >> ops.FillMissing(2) >> ops.Normalize())
    workflow = nvtabular.Workflow(graph).fit(rows)
    expected = workflow.transform(rows).to_ddf().compute()
    workflow.save(str(tmp_path / "saved"))
    shutil.move(tmp_path / "saved", tmp_path / "moved")
    shutil.rmtree(tmp_path / "categories")
    made = load_workflow(tmp_path / "moved").transform(rows).to_ddf().compute()
    pd.testing.assert_frame_equal(made, expected)
    assert expected["word"].nunique() == 2


def _compare_features(kept: Path, workflow: Any) -> None:
    """The workflow makes of the kept rows what it made of them then."""
    spec = load_feature_spec(kept / "data" / "feature_spec.yaml")
    (raw,) = RawParquet(str(kept / "joined" / "valid"), spec).batches(1000)
    (expected,) = ParquetDataset(str(kept / "data" / "valid"), spec).batches(1000)
    assert len(raw) == len(expected) > 50
    for name, array in RawFeatures(workflow, spec).infer_impl(raw.x).items():
        np.testing.assert_array_equal(array, expected.x[name], name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: _damage(folder / PICKLE), r"is damaged, or not the one that metadata\.json describes"),
        (lambda folder: (folder / PICKLE).write_bytes(b""), r"is damaged"),
        (lambda folder: (folder / PICKLE).unlink(), r"there is no workflow at"),
        (lambda folder: (folder / METADATA).unlink(), r"metadata\.json doesn't say .*No such file"),
        (lambda folder: (folder / METADATA).write_text("{"), r"metadata\.json doesn't say"),
        (lambda folder: (folder / METADATA).write_text("[]"), r"metadata\.json doesn't say"),
        (lambda folder: (folder / METADATA).write_text("[" * 100_000), r"metadata\.json doesn't say"),
        (lambda folder: (folder / METADATA).write_text('{"versions": {"python": " "}}'), r"its python is no text"),
        (lambda folder: (folder / METADATA).write_text("{}"), r"metadata\.json doesn't say .*it has no 'versions'"),
        (lambda folder: _write(folder, b"no pickle"), r"can't be read: .*; it was made with Python 3"),
        (lambda folder: _write(folder, pickle.dumps({})), r"holds a dict, no NVTabular workflow"),
        (
            lambda folder: _write(folder, b"cnumpy._later\narray\n."),
            r"No module named 'numpy\._later'; it was made with",
        ),
        (lambda folder: _describe(folder, hash_buckets=[1]), r"hashed ids to other buckets than pandas \d"),
        (lambda folder: _damage(_table(folder, "topics.weights")), r"topics\.weights\.npy of the workflow is damaged"),
        (lambda folder: _table(folder, "ad_id.ids").unlink(), r"ad_id\.ids\.npy of the workflow is missing"),
        (
            lambda folder: shutil.copy(_table(folder, "ad_id.ids"), _table(folder, "campaign_id.ids")),
            r"campaign_id\.ids\.npy of the workflow is damaged, or not the one that metadata\.json describes",
        ),
        (lambda folder: _describe(folder, tables={}), r"npy of the workflow has no checksum in .*metadata\.json"),
        (lambda folder: _describe(folder, tables=3), r"npy of the workflow has no checksum in .*metadata\.json"),
        (
            lambda folder: _replace_table(folder, "ad_id.counts", b"no array"),
            r"ad_id\.counts\.npy can't be mapped: .*magic",
        ),
    ],
)
def test_what_can_not_be_read_is_refused_in_one_line_with_the_remedy(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(DataError, match=message) as raised:
        load_workflow(folder)
    text = str(raised.value)
    assert "\n" not in text
    assert "scripts/preproc.sh --raw-dir" in text or "copy the whole workflow" in text or "give the folder" in text


def test_requests_are_transformed_without_arrow_arrays(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_nvtabular()
    from widedeep.preprocessing.nvt_operators import HashBuckets

    seen: list[str] = []
    real_transform = HashBuckets.transform

    def transform(self: HashBuckets, selector: Any, frame: Any) -> Any:
        seen.extend(
            dtype.storage for dtype in [frame.columns.dtype, *frame.dtypes] if isinstance(dtype, pd.StringDtype)
        )
        return real_transform(self, selector, frame)

    monkeypatch.setattr(HashBuckets, "transform", transform)
    _answers(data / "workflow", data)
    assert set(seen) == {"python"}


def _answers(workflow: Path, data: Path) -> dict[str, list[Any]]:
    return _answers_of(load_raw_features(workflow, load_feature_spec(data / "feature_spec.yaml")))


def _answers_of(model: RawFeatures) -> dict[str, list[Any]]:
    x: Arrays = {}
    for tensor in model.spec.inputs:
        values: list[Any] = ["US>CA>807", "", "GB"] if tensor.dtype == "object" else [1, 3, 250]
        x[tensor.name] = np.array(values, dtype=tensor.dtype).reshape(-1, 1)
    return {name: values.tolist() for name, values in model.infer_impl(x).items()}


def _modules(content: bytes) -> set[str]:
    """First parts of the modules whose names a pickle looks up."""
    strings: list[Any] = []
    memo: list[Any] = []
    found = set()
    argument: Any
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name == "STACK_GLOBAL":
            found.add(strings[-2].split(".")[0])
        elif opcode.name == "MEMOIZE":
            memo.append(strings[-1] if strings else None)
            continue
        assert opcode.name != "GLOBAL"
        strings.append(memo[argument] if opcode.name.endswith("BINGET") else argument)
    return found


def _text(text: str) -> bytes:
    """A short text as it is in a pickle."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def _unframed(content: bytes) -> bytes:
    """A pickle without its frames, whose lengths no longer hold."""
    ends: list[Any] = [at for opcode, _, at in pickletools.genops(content) if opcode.name == "FRAME"]
    for at in reversed(ends):
        content = content[:at] + content[at + 9 :]
    return content


def _table(folder: Path, name: str) -> Path:
    return folder / "tables" / f"{name}.npy"


def _replace_table(folder: Path, name: str, content: bytes) -> None:
    """Replaces a table by other content, of which the metadata has the checksum."""
    _table(folder, name).write_bytes(content)
    tables = json.loads((folder / METADATA).read_text())["tables"]
    _describe(folder, tables=tables | {name: hashlib.sha256(content).hexdigest()})


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _write(folder: Path, content: bytes) -> None:
    """Replaces the pickle by one of which the metadata has no checksum, as of NVTabular's own."""
    (folder / PICKLE).write_bytes(content)
    _describe(folder, sha256="")


def _describe(folder: Path, **changes: Any) -> None:
    description = json.loads((folder / METADATA).read_text())
    for name, value in changes.items():
        (description["versions"] if name in description["versions"] else description)[name] = value
    (folder / METADATA).write_text(json.dumps(description))
