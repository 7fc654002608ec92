from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError
from deployment_toolkit.rows.dump import Dump
from tests.original_dump import Sections, click_batches, write_original_dump

SHAPES: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    "ids": {"ids": ("int64", ())},
    "outputs": {"a": ("float32", (1,)), "b/c": ("float64", (2, 2))},
}
SHAPES |= {"labels": {"a": ("bool", (1,))}, "inputs": {"word": ("U3", (1,)), "id": ("uint64", (3,))}}


@st.composite
def batches(draw: st.DrawFn) -> list[Sections]:
    """Batches of random sizes with random values."""
    sections = ["ids", "outputs", *draw(st.lists(st.sampled_from(["labels", "inputs"]), unique=True))]

    def tensor(dtype: str, shape: tuple[int, ...], rows: int) -> Array:
        return draw(npst.arrays(dtype, (rows, *shape), elements=npst.from_dtype(np.dtype(dtype))))

    return [
        {section: {name: tensor(*of, rows) for name, of in SHAPES[section].items()} for section in sections}
        for rows in draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    ]


@settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches(), st.integers(0, 300), st.integers(1, 9))
def test_original_dump_is_read_as_it_was_written(
    tmp_path: Path, written: list[Sections], file_bytes: int, batch_size: int
) -> None:
    folder = tmp_path / "d"
    shutil.rmtree(folder, ignore_errors=True)
    dump = Dump(write_original_dump(folder, written, file_bytes))
    assert dump.rows == sum(len(batch["ids"]["ids"]) for batch in written)
    parts = list(dump.predictions(batch_size))
    assert {len(part.batch) for part in parts[:-1]} <= {batch_size}
    read = [{"ids": {"ids": p.batch.ids}, "outputs": p.y_pred, "labels": p.batch.y, "inputs": p.batch.x} for p in parts]
    for section, tensors in written[0].items():
        for name, array in tensors.items():
            wanted = np.concatenate([batch[section][name] for batch in written])
            found = np.concatenate([part[section][name] for part in read])
            np.testing.assert_array_equal(found, wanted)
            assert found.dtype.kind == array.dtype.kind


def test_dump_is_read_in_the_memory_of_a_batch(tmp_path: Path) -> None:
    write_original_dump(tmp_path / "d", click_batches(100_000, 1000))
    size = (tmp_path / "d" / "outputs-000000000000.json").stat().st_size
    tracemalloc.start()
    rows = sum(len(part.batch) for part in Dump(tmp_path / "d").predictions(1000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 100_000
    assert size > 2_000_000
    assert peak < 7_000_000  # two pieces of 1 MiB of each of three files; whole, their numbers take 13 MB


Change = Callable[[list[Any]], object]
PART = "outputs-000000000000.json"
DAMAGES: dict[str, tuple[Change, str]] = {
    "a batch less": (lambda data: data.pop(), f"{PART} has 3 batches, other files of its rows have more"),
    "a batch more": (lambda data: data.append(data[0]), r"ids-000000000000\.json has 4 batches, other files"),
    "rows": (lambda data: data[2].update(_tensor([0.5], "float32")), f"{PART}: a batch has 1 rows of .* 64 of ids/ids"),
    "no rows": (
        lambda data: data[2].update(_tensor(0.5, "float32")),
        f"{PART}: .* its shape is \\[\\]|argument of type",
    ),
    "another row": (
        lambda data: data[1].update(_tensor([[0.5, 0.5]] * 64, "float32")),
        rf"{PART}: a batch of outputs/wide_deep_model is float32\[2\] a row, the batches before it float32\[1\]",
    ),
    "another type": (
        lambda data: data[1].update(_tensor([[1]] * 64, "int32")),
        rf"{PART}: a batch of outputs/wide_deep_model is int32\[1\] a row, the batches before it float32\[1\]",
    ),
    "another name": (
        lambda data: data[1].update(other=data[1].pop("wide_deep_model")),
        f"{PART}: .* not in every batch",
    ),
    "shape": (lambda data: data[1]["wide_deep_model"].update(shape=[63, 1]), f"{PART} can't be read as a dump: cannot"),
    "null": (lambda data: data[1]["wide_deep_model"]["content"].insert(0, None), "holds values that are no float32"),
    "fraction": (lambda data: data[0]["wide_deep_model"].update(dtype="int32"), "holds values that are no int32"),
    "dtype": (lambda data: data[0]["wide_deep_model"].update(dtype="float33"), "data type 'float33' not understood"),
    "entry": (lambda data: data[0]["wide_deep_model"].pop("dtype"), "it needs content, shape and dtype"),
}


def _tensor(content: Any, dtype: str) -> dict[str, Any]:
    array = np.array(content, dtype)
    return {"wide_deep_model": {"content": array.reshape(-1).tolist(), "shape": list(array.shape), "dtype": dtype}}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_batch_is_reported_with_its_file(tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    path = write_original_dump(tmp_path / "d", click_batches(256, 64)) / PART
    content = json.loads(path.read_text())
    change(content["data"])
    path.write_text(json.dumps(content))
    _fails(tmp_path / "d", message)


@pytest.mark.parametrize("section", ["ids", "outputs", "labels"])
def test_cut_file_is_reported(tmp_path: Path, section: str) -> None:
    path = write_original_dump(tmp_path / "d", click_batches(128, 64)) / f"{section}-000000000000.json"
    text = path.read_text()
    middle = text.index(',{"'.replace(",", ", "))  # between two batches
    for cut in ("", text[:1], text[:30], text[:middle], text[: middle + 1], text[:-2], text[:-1]):
        path.write_text(cut)
        _fails(tmp_path / "d", rf"{path.name} can't be read as a dump: .*(early|Expecting|Unterminated)")
    for more, told in ((text + "]", "more text"), ('{"rows": []}', 'no "data"'), ("\x80" * 9, "stands where")):
        path.write_text(more)
        _fails(tmp_path / "d", told)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    for name, told in (
        ("outputs-000000000064.json", r"\['outputs'\] of row 64 on are missing"),
        ("*64.json", "row 128"),
    ):
        folder = write_original_dump(tmp_path / name[0], click_batches(256, 64), file_bytes=1)
        for path in folder.glob(name):
            path.unlink()
        _fails(folder, told)


def test_dump_in_a_form_that_is_not_read_is_reported(tmp_path: Path) -> None:
    folder = write_original_dump(tmp_path / "both", click_batches(64, 64))
    (folder / "outputs").mkdir()
    _fails(folder, "holds files of two dumps, in JSON and npy")
    (tmp_path / "pickle").mkdir()
    (tmp_path / "pickle" / "ids-000000000000.pkl").touch()
    _fails(tmp_path / "pickle", r"ids-000000000000\.pkl is a pickle, .*: write the dump as JSON")


def _fails(folder: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as raised:
        for _ in Dump(folder).predictions():
            pass
    assert "\n" not in str(raised.value)
