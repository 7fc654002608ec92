from __future__ import annotations

import csv
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import calculate_metrics
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, ModelError, UsageError
from deployment_toolkit.rows.dump import Dump
from metrics import MetricsCalculator
from score_dataset import main
from tests.scored import SmallData, assert_complete, make_small_data, parts_of
from tests.small_disk import mounted


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> SmallData:
    return make_small_data(tmp_path_factory.mktemp("small"))


def score(data: SmallData, output: Path, *options: str) -> None:
    main([*data.options(), "--output-dir", str(output), *options])


def test_parts_hold_every_row_in_order_with_its_columns(data: SmallData, tmp_path: Path) -> None:
    score(data, tmp_path / "scores", "--columns", "x2", "x1", "--rows-per-part", "300")
    assert_complete(data, tmp_path / "scores")  # row groups of 250 stay whole
    first = pq.read_table(parts_of(tmp_path / "scores")[0])
    assert first.column_names == ["display_id", "row", "clicked", "y", "x2", "x1"]
    source = pq.read_table(data.files[0]).slice(0, 250)
    for name in ("display_id", "clicked", "x1"):
        assert first[name].to_pylist() == source[name].to_pylist()
    assert first["x2"].to_pylist() == [row + [-1] * (3 - len(row)) for row in source["x2"].to_pylist()]


def test_large_row_groups_are_divided_and_small_ones_joined(data: SmallData, tmp_path: Path) -> None:
    score(data, tmp_path / "small", "--rows-per-part", "100")
    assert_complete(data, tmp_path / "small", most_parts=72)  # of 83 or 84 rows
    score(data, tmp_path / "large", "--rows-per-part", "4000")
    assert_complete(data, tmp_path / "large", most_parts=2)


def test_metrics_are_those_of_a_dump_and_unfinished_scores_are_refused(data: SmallData, tmp_path: Path) -> None:
    score(data, tmp_path / "scores")
    dump = Dump(tmp_path / "scores")
    assert dump.rows == 6000 and dump.sections == {"ids", "labels", "outputs"}
    predictions = list(dump.predictions(1000))
    assert predictions[0].y_pred["y"].shape == (1000, 1) and predictions[0].batch.y["clicked"].dtype == np.int32
    np.testing.assert_allclose(np.concatenate([item.y_pred["y"][:, 0] for item in predictions]), data.scores())
    argv = ["--metrics", str(ROOT / "metrics.py"), "--dump-dir", str(tmp_path / "scores")]
    argv += ["--output-used-for-metrics", "y", "--csv", str(tmp_path / "metrics.csv")]
    calculate_metrics.main(argv)
    with (tmp_path / "metrics.csv").open() as file:
        (metrics,) = csv.DictReader(file)
    wanted = MetricsCalculator(output_used_for_metrics="y")
    for item in predictions:
        wanted.update(item.batch.ids, item.y_pred, None, item.batch.y)
    assert float(metrics["map12"]) == pytest.approx(wanted.metrics["map12"])

    (tmp_path / "scores" / "_SUCCESS").unlink()
    parts_of(tmp_path / "scores")[3].unlink()
    with pytest.raises(DataError, match=r"is unfinished, with 23 of 24 parts: give the same score_dataset\.py command"):
        calculate_metrics.main(argv)


def test_same_command_goes_on_and_another_is_refused(data: SmallData, tmp_path: Path) -> None:
    output = tmp_path / "scores"
    score(data, output)
    kept, short, lost, cut = (parts_of(output)[number] for number in (0, 3, 5, 7))
    made = kept.stat().st_mtime_ns
    table = pq.read_table(short)
    told = pq.read_metadata(short).metadata[b"scores"].replace(b'"rows": 250', b'"rows": 240')
    pq.write_table(table.slice(10).replace_schema_metadata({b"scores": told}), short)
    lost.unlink()
    cut.write_bytes(cut.read_bytes()[:-100])
    (output / "_SUCCESS").unlink()
    (output / f".{short.name}.01234567-1-2.partial").touch()  # of another host
    score(data, output)
    assert_complete(data, output)
    assert kept.stat().st_mtime_ns == made

    with pytest.raises(UsageError, match=r"scores of another command, with other options \(--rows-per-part\)"):
        score(data, output, "--rows-per-part", "500")
    other = make_small_data(tmp_path / "other")
    with pytest.raises(UsageError, match=r"with other data and options \(--data-pattern\)"):
        main([*data.options(), "--output-dir", str(output), "--data-pattern", other.pattern])
    assert_complete(data, output)
    score(data, output, "--rows-per-part", "500", "--force")
    assert_complete(data, output, most_parts=12)


def test_folder_of_others_is_left_alone(data: SmallData, tmp_path: Path) -> None:
    (tmp_path / "part-00000.parquet").write_text("precious")
    for options in ((), ("--force",)):
        with pytest.raises(UsageError, match=r"holds part-00000\.parquet, but no plan: name a new or empty folder"):
            score(data, tmp_path, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_changed_data_are_refused_while_scoring(data: SmallData, tmp_path: Path) -> None:
    own = make_small_data(tmp_path / "own", files=1)
    score(own, tmp_path / "scores")
    write = pq.read_table(own.files[0])
    pq.write_table(write.slice(0, 1999), own.files[0])
    with pytest.raises(UsageError, match="with other data: name another folder"):
        score(own, tmp_path / "scores")


@pytest.fixture
def spoilt(tmp_path: Path) -> SmallData:
    """Data with three rows that have an id outside the table and one with a null, in two parts."""
    data = make_small_data(tmp_path / "spoilt", files=2)
    table = pq.read_table(data.files[1])
    x2, x1 = table["x2"].to_pylist(), table["x1"].to_pylist()
    x2[3] = x2[4] = x2[1500] = [1000]
    x1[1501] = None
    names = table.column_names
    table = table.set_column(names.index("x2"), "x2", pa.array(x2, table["x2"].type))
    table = table.set_column(names.index("x1"), "x1", pa.array(x1, pa.float32()))
    pq.write_table(table, data.files[1], row_group_size=250)
    return data


def test_bad_rows_are_told_or_left_out(spoilt: SmallData, tmp_path: Path) -> None:
    output = tmp_path / "scores"
    with pytest.raises(DataError, match=r"rows-1\.parquet: column x2, row 3 holds 1000, outside 0 \.\. 599"):
        score(spoilt, output)
    assert len(parts_of(output)) == 8 and not (output / "_SUCCESS").exists()
    with pytest.raises(DataError, match=r"--max-bad-rows allows 3"):
        score(spoilt, output, "--max-bad-rows", "3")
    score(spoilt, output, "--max-bad-rows", "4")  # allowing more is no other command
    found = []
    for path in sorted((output / "rejected").iterdir()):
        with path.open() as file:
            found += [(Path(row["file"]).name, int(row["row"]), row["reason"]) for row in csv.DictReader(file)]
    problem = "column x2 holds 1000, outside 0 .. 599"
    name = "rows-1.parquet"
    assert found[:3] == [(name, 3, problem), (name, 4, problem), (name, 1500, problem)]
    assert found[3] == (name, 1501, "column x1 is null")
    rows = np.concatenate([pq.read_table(path)["row"].to_numpy() for path in parts_of(output)])
    np.testing.assert_array_equal(rows, np.delete(np.arange(4000), [2003, 2004, 3500, 3501]))
    assert Dump(output).rows == 3996


def test_ids_that_only_the_model_lacks_are_bad_rows(data: SmallData, tmp_path: Path) -> None:
    own = make_small_data(tmp_path / "own", files=1)
    text = (own.folder / "data" / "feature_spec.yaml").read_text()
    (own.folder / "data" / "feature_spec.yaml").write_text(text.replace("600", "2000"))
    x2 = pq.read_table(own.files[0])["x2"].to_pylist()
    table = pq.read_table(own.files[0])
    x2[260] = [1234]
    pq.write_table(table.set_column(table.column_names.index("x2"), "x2", pa.array(x2, table["x2"].type)), own.files[0])
    with pytest.raises(DataError, match=r"row 260: column x2 holds 1234, outside -1 \.\. 599 of the model"):
        score(own, tmp_path / "scores")
    score(own, tmp_path / "scores", "--max-bad-rows", "1")
    assert Dump(tmp_path / "scores").rows == 1999


PLAIN_DATALOADER = """
import pyarrow.parquet as pq
import glob
import numpy as np

def get_dataloader_fn(*, data_pattern: str, batch_size: int = 77, lost: int = 0):
    def batches():
        for path in sorted(glob.glob(data_pattern)):
            rows = pq.read_table(path).to_pylist()
            rows = rows[: len(rows) - lost]
            for start in range(0, len(rows), batch_size):
                part = rows[start : start + batch_size]
                x2 = np.array([row["x2"] + [-1] * (3 - len(row["x2"])) for row in part], np.int32)
                x1 = np.array([[row["x1"]] for row in part], np.float32)
                labels = np.array([[row["clicked"]] for row in part])
                yield [row["display_id"] for row in part], {"x1": x1, "x2": x2}, {"y": labels}
    return batches
"""


def test_dataloaders_that_only_stream_are_read_file_by_file(data: SmallData, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN_DATALOADER)
    argv = ["--dataloader", str(tmp_path / "plain.py"), "--data-pattern", data.pattern]
    argv += ["--input-path", str(data.model), "--input-type", "onnx", "--rows-per-part", "1500"]
    main([*argv, "--output-dir", str(tmp_path / "scores")])
    assert_complete(data, tmp_path / "scores", most_parts=6)
    first = pq.read_table(parts_of(tmp_path / "scores")[0])
    assert first.column_names == ["id", "row", "labels_y", "y"]
    with pytest.raises(DataError, match=r"rows-0\.parquet has 2000 rows, the dataloader gave 1999 of them"):
        main([*argv, "--output-dir", str(tmp_path / "lost"), "--lost", "1"])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--columns", "x3"], UsageError, "--columns x3: there is no such input; there are x1, x2"),
        (["--server-url", "localhost:1"], UsageError, "--server-url asks servers: leave out --input-path"),
        (["--n-workers", "2", "--scheduler-address", "tcp://a:1"], UsageError, "name different places for the work"),
        (["--input-path", "none.onnx"], ModelError, r"there is no model at .*none\.onnx"),
        (["--rows-per-part", "0"], UsageError, "--rows-per-part must be at least 1"),
    ],
)
def test_wrong_options_are_told_before_the_work(
    data: SmallData, tmp_path: Path, options: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        score(data, tmp_path / "scores", *options)
    assert not list(tmp_path.glob("scores/*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "160k") as folder:
        yield folder


def test_full_disk_is_one_line_and_scoring_goes_on_when_there_is_room(
    data: SmallData, small_disk: Path, tmp_path: Path
) -> None:
    output = small_disk / "scores"
    with pytest.raises(DataError, match=r"part-000\d\d\.parquet can't be written: No space left on device"):
        score(data, output)
    done = len(parts_of(output))
    assert 0 < done < 24 and not (output / "_SUCCESS").exists()
    assert not list(output.glob(".*"))
    for path in parts_of(output):
        assert pq.read_table(path).num_rows == 250
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    score(data, output)
    assert_complete(data, output)
