"""Workflow files: what they hold, who can read them, and how others are refused."""

from __future__ import annotations

import json
import pickle
import pickletools
import platform
import shutil
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest

from deployment_toolkit.core import Arrays
from deployment_toolkit.errors import DataError
from widedeep.features.spec import load_feature_spec
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.documents import hash_ids
from widedeep.preprocessing.nvtabular_import import import_nvtabular
from widedeep.preprocessing.raw_features import load_raw_features
from widedeep.preprocessing.workflow_file import METADATA, PICKLE, load_workflow, save_workflow
from widedeep.synthetic import SyntheticOptions, generate

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


def test_file_that_nvtabular_wrote_with_an_earlier_layout_of_this_project_is_read(data: Path, folder: Path) -> None:
    earlier = current = (folder / PICKLE).read_bytes()
    for name in ("documents", "nvt_operators"):
        earlier = earlier.replace(_text(f"widedeep.preprocessing.{name}"), _text(f"widedeep.{name}"))
    assert earlier != current
    (folder / PICKLE).write_bytes(_unframed(earlier))
    (folder / METADATA).write_text(json.dumps({"versions": {"nvtabular": "23.08.00", "python": _OTHER_PYTHON}}))
    assert _answers(folder, data) == _answers(data / "workflow", data)

    _write(folder, b"\x80\x04" + _text("widedeep.workflow") + _text("_state") + b"\x93.")
    with pytest.raises(DataError, match="holds a function, no"):  # it was found under its present name
        load_workflow(folder)


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
    ],
)
def test_what_can_not_be_read_is_refused_in_one_line_with_the_remedy(folder: Path, change: Any, message: str) -> None:
    change(folder)
    with pytest.raises(DataError, match=message) as raised:
        load_workflow(folder)
    text = str(raised.value)
    assert "\n" not in text
    assert "scripts/preproc.sh --raw-dir" in text or "give the folder workflow/" in text


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
    model = load_raw_features(workflow, load_feature_spec(data / "feature_spec.yaml"))
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
        (description if name in ("sha256", "hash_buckets") else description["versions"])[name] = value
    (folder / METADATA).write_text(json.dumps(description))
