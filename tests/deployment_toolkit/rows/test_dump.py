from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deployment_toolkit.core import Arrays, Batch, Prediction
from deployment_toolkit.errors import DataError, UsageError
from deployment_toolkit.rows.dump import Dump, DumpFormat, DumpOptions, DumpWriter, write_predictions

ODD = "serving/default:0 é%"


def predictions(rows: int, batch_size: int = 64) -> list[Prediction]:
    generator = np.random.default_rng(rows)
    ids, x = np.arange(rows, dtype=np.int32), generator.integers(-1, 9, (rows, 3)).astype(np.int32)
    y, score = (ids % 2)[:, None], generator.random((rows, 1), np.float32)
    cuts = [slice(start, start + batch_size) for start in range(0, rows, batch_size)]
    return [Prediction(Batch(ids[s], {ODD: x[s]}, {"clicked": y[s]}), {"score": score[s]}) for s in cuts]


def write(path: Path, rows: int, **options: object) -> list[Prediction]:
    given = predictions(rows)
    with DumpWriter(DumpOptions(path, **options)) as dump:  # type: ignore[arg-type]
        for prediction in given:
            dump.write(prediction)
    return given


def joined(parts: list[Prediction]) -> Arrays:
    names = {"ids": [part.batch.ids for part in parts]}
    names |= {f"x {name}": [part.batch.x[name] for part in parts] for name in parts[0].batch.x}
    names |= {f"y {name}": [part.batch.y[name] for part in parts] for name in parts[0].batch.y}
    names |= {f"o {name}": [part.y_pred[name] for part in parts] for name in parts[0].y_pred}
    return {name: np.concatenate(arrays) for name, arrays in names.items()}


@pytest.mark.parametrize("dump_format", list(DumpFormat))
def test_dump_is_read_as_it_was_written(tmp_path: Path, dump_format: DumpFormat) -> None:
    given = joined(write(tmp_path / "d", 1000, dump_labels=True, dump_inputs=True, dump_format=dump_format))
    dump = Dump(tmp_path / "d")
    assert (dump.rows, dump.name) == (1000, "d")
    parts = list(dump.predictions(batch_size=300))
    assert [len(part.batch) for part in parts] == [300, 300, 300, 100]
    read = joined(parts)
    assert read.keys() == given.keys()
    for name, array in given.items():
        assert (read[name].dtype, read[name].tolist()) == (array.dtype, array.tolist())
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_npy_files_open_in_numpy_without_pickle(tmp_path: Path) -> None:
    given = joined(write(tmp_path / "d", 12_345, dump_labels=True, dump_inputs=True))
    found = {str(path.relative_to(tmp_path / "d")): path for path in (tmp_path / "d").rglob("*.npy")}
    odd = "inputs/serving%2Fdefault%3A0%20%C3%A9%25.npy"
    assert sorted(found) == ["ids/ids.npy", odd, "labels/clicked.npy", "outputs/score.npy"]
    for file, name in (("ids/ids.npy", "ids"), ("outputs/score.npy", "o score"), (odd, f"x {ODD}")):
        array = np.load(found[file], mmap_mode="r", allow_pickle=False)
        assert (array.dtype, array.tolist()) == (given[name].dtype, given[name].tolist())


def test_dump_has_inputs_and_labels_only_by_option(tmp_path: Path) -> None:
    write(tmp_path / "d", 10)
    (part,) = Dump(tmp_path / "d").predictions()
    assert (part.batch.x, part.batch.y) == ({}, {})
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == ["ids", "outputs", "requests.json"]


@pytest.mark.parametrize("dump_format", list(DumpFormat))
def test_dump_names_the_request_size_of_each_row(tmp_path: Path, dump_format: DumpFormat) -> None:
    write(tmp_path / "d", 200, dump_format=dump_format)  # 64 at a time
    assert (tmp_path / "d" / "requests.json").read_text() == "[[64, 3], [8, 1]]"
    requests = Dump(tmp_path / "d").requests
    assert [requests.rows_with(row) for row in (0, 63, 64, 191, 192, 199)] == [64, 64, 64, 64, 8, 8]


@pytest.mark.parametrize("text", [None, "", "{", "[1]", "[[64, 4]]", "[]", '[["a", 1]]'])
def test_dump_without_request_sizes_is_read_and_replaced(tmp_path: Path, text: str | None) -> None:
    write(tmp_path / "d", 200)
    if text is None:
        (tmp_path / "d" / "requests.json").unlink()
    else:
        (tmp_path / "d" / "requests.json").write_text(text)
    dump = Dump(tmp_path / "d")
    assert (dump.rows, dump.requests.rows_with(0)) == (200, None)
    write(tmp_path / "d", 200)  # and replaced


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_earlier_dump_stays_until_the_new_one_is_complete(tmp_path: Path, error: type[BaseException]) -> None:
    write(tmp_path / "d", 10)
    with pytest.raises(error), DumpWriter(DumpOptions(tmp_path / "d")) as dump:
        dump.write(predictions(64)[0])
        raise error
    assert Dump(tmp_path / "d").rows == 10
    write(tmp_path / "d", 20, dump_format=DumpFormat.JSON)
    assert Dump(tmp_path / "d").rows == 20
    assert [path.name for path in tmp_path.iterdir()] == ["d"]


def test_folder_with_other_files_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"holds thesis\.txt, which is no dump: name a new or empty folder"):
        write(tmp_path, 10)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


def test_batches_with_different_signatures_are_refused(tmp_path: Path) -> None:
    first, *_ = predictions(64)
    wider = Prediction(first.batch, {"score": np.zeros((64, 2), np.float32)})
    shorter = Prediction(first.batch, {"score": np.zeros((63, 1), np.float32)})
    other = Prediction(first.batch, {"other": np.zeros((64, 1), np.float32)})
    objects = Prediction(first.batch, {"score": np.array([None] * 64)})
    for bad, message in (
        ([first, wider], r"outputs/score is float32\[2\] a row, the batches before it float32\[1\]"),
        ([first, other], r"the batches before it \['ids/ids', 'outputs/score'\]"),
        ([shorter], "64 ids, but 63 rows of outputs/score"),
        ([objects], "score holds Python objects"),
    ):
        with pytest.raises(DataError, match=message), DumpWriter(DumpOptions(tmp_path / "d")) as dump:
            for prediction in bad:
                dump.write(prediction)
    assert not list(tmp_path.iterdir())


def test_dump_labels_needs_labels_in_the_batches(tmp_path: Path) -> None:
    (first,) = predictions(10)
    unlabelled = Prediction(Batch(first.batch.ids, first.batch.x), first.y_pred)
    with (
        pytest.raises(DataError, match="--dump-labels: the dataloader gives no labels"),
        DumpWriter(DumpOptions(tmp_path / "d", dump_labels=True)) as dump,
    ):
        dump.write(unlabelled)


def test_damaged_dump_is_reported_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no dump at .*nowhere: make it with"):
        Dump(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no ids and no outputs"):
        Dump(tmp_path / "empty")
    write(tmp_path / "a", 100)
    np.save(tmp_path / "a" / "ids" / "ids.npy", np.arange(99))
    with pytest.raises(DataError, match="outputs/score has 100 rows, ids/ids has 99"):
        Dump(tmp_path / "a")
    write(tmp_path / "b", 100)
    score = tmp_path / "b" / "outputs" / "score.npy"
    for content in (score.read_bytes()[:-4], score.read_bytes()[:30], b""):
        score.write_bytes(content)
        with pytest.raises(DataError, match=r"score\.npy (is truncated|can't be read as a dump)"):
            Dump(tmp_path / "b")
    write(tmp_path / "c", 200, dump_format=DumpFormat.JSON)
    middle = tmp_path / "c" / "outputs-000000000064.json"
    text = middle.read_text()
    middle.write_text(text[:-10])
    with pytest.raises(DataError, match=r"outputs-000000000064\.json can't be read as a dump"):
        list(Dump(tmp_path / "c").predictions())
    middle.unlink()
    with pytest.raises(DataError, match=r"\['outputs'\] of row 64 on are missing"):
        Dump(tmp_path / "c")
    (tmp_path / "c" / "ids-000000000064.json").unlink()
    with pytest.raises(DataError, match="rows missing from 64 on"):
        list(Dump(tmp_path / "c").predictions())


class Doubler:
    """A session that answers with twice the id."""

    def predict(self, batches: Iterator[Batch]) -> Iterator[Prediction]:
        for batch in batches:
            yield Prediction(batch, {"double": batch.ids[:, None] * 2})


def test_predictions_of_a_session_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Loader:
        num_rows = 150

        def __call__(self) -> Iterator[tuple[np.ndarray, Arrays, Arrays]]:  # type: ignore[type-arg]
            for part in predictions(150):
                yield part.batch.ids, part.batch.x, part.batch.y

    options = DumpOptions(tmp_path / "d", dump_labels=True)
    assert write_predictions(Doubler(), Loader(), options) == 150  # type: ignore[arg-type]
    (part,) = Dump(tmp_path / "d").predictions()
    assert part.y_pred["double"][:, 0].tolist() == list(range(0, 300, 2))
    assert "150" in capsys.readouterr().err

    with pytest.raises(DataError, match="the dataloader gave no rows"):
        write_predictions(Doubler(), lambda: iter(()), options)  # type: ignore[arg-type]
    assert Dump(tmp_path / "d").rows == 150
