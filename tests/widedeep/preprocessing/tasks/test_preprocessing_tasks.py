"""Preprocessing as tasks: the same bytes from one process, from workers that die, and from jobs that are killed."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import logging
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cluster import ClusterOptions, open_cluster
from deployment_toolkit.errors import ClusterError, DataError, ProcessError, UsageError
from deployment_toolkit.process import run
from deployment_toolkit.tasks.running import Cluster, ClusterTask, ThisProcess
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, PROMOTED, TAGS
from widedeep.preprocessing.raw_files import find_tables
from widedeep.preprocessing.tasks.layout import Layout, boundaries
from widedeep.preprocessing.tasks.plan import environment
from widedeep.preprocessing.tasks.runs import deal, keep_list, read_range
from widedeep.preprocessing.tasks.spans import spans_of
from widedeep.preprocessing.tasks.steps import FaultyDataError, faults_of_data
from widedeep.preprocessing.tasks.work_folder import checked

WHOLE = Layout(file_rows=100, group_rows=40)
PARTS = dataclasses.replace(WHOLE, piece_bytes=900, run_rows=64, sample_rows=16, bucket_rows=48)

Files = dict[str, bytes]
Results = Generator[tuple[str, Any], None, None]


class Watched(ThisProcess):
    """This process, which notes the tasks that it runs, and fails after one of them if told so."""

    def __init__(self, fails_after: str | None = None) -> None:
        super().__init__(1)
        self.ran: list[str] = []
        self._fails_after = fails_after

    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Results:
        for key, result in super().run(function, tasks):
            self.ran.append(key)
            yield key, result
            if self._fails_after is not None and key.startswith(self._fails_after):
                raise ClusterError("the workers are gone")


class Deadly(Cluster):
    """A cluster whose workers are killed in some tasks, named by their numbers: before the task, when it has written a
    file and not yet renamed it, or after it."""

    def __init__(self, cluster: Cluster, marks: Path, moments: dict[int, str]) -> None:
        self._cluster, self._marks, self._moments = cluster, marks, moments
        self._tasks = 0

    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Results:
        told = (ClusterTask(task.key, (*self._next(), function, task.args)) for task in tasks)
        yield from self._cluster.run(killed_once, told)

    def _next(self) -> tuple[str, Path]:
        number, self._tasks = self._tasks, self._tasks + 1
        return self._moments.get(number, "never"), self._marks / str(number)


def killed_once(moment: str, mark: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Runs in a worker."""
    if moment == "never" or mark.exists():
        return function(*args)
    mark.write_text(moment)
    if moment == "before":
        kill_this_process()
    elif moment == "at a rename":
        Path.replace = kill_this_process  # type: ignore[assignment, method-assign]
    result = function(*args)
    kill_this_process()
    return result


def kill_this_process(*_: object) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def as_over_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of this test can't be removed as long as this process has open or maps a file that was in it. There is
    no NFS here: this stands for its rule."""
    really = os.rmdir

    def rmdir(path: Any, **options: Any) -> None:
        names = [os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]  # noqa: PTH115
        names += Path("/proc/self/maps").read_text().splitlines()
        held = [name for name in names if f"{tmp_path}/" in name and name.endswith(" (deleted)")]
        if any(Path(path).name in Path(name[name.index(str(tmp_path)) :]).parts for name in held):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(path))
        really(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)


@pytest.fixture(scope="module")
def files(few_raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of one process with one task for each step."""
    return _preprocessed(few_raw, tmp_path_factory.mktemp("whole") / "out", WHOLE)


def test_workers_that_are_killed_cost_their_tasks_and_the_files_are_those_of_one_process(
    few_raw: Path, files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert len([name for name in files if name.endswith(".parquet")]) > 3
    (tmp_path / "marks").mkdir()
    chance = random.Random(18)
    moments = {chance.randrange(1, 20): "at a rename", chance.randrange(20, 28): chance.choice(["before", "after"])}
    with open_cluster(ClusterOptions(n_workers=2)) as workers:
        cluster = Deadly(workers, tmp_path / "marks", moments)
        preprocess(PreprocessingOptions(few_raw, tmp_path / "out"), cluster, PARTS)
    assert len(list((tmp_path / "marks").iterdir())) == 2, moments
    assert caplog.text.count("has died; another one takes over what it had") >= 2
    assert _files(tmp_path / "out") == files, moments
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marks", "out"]


PROGRAM = """
import sys
from pathlib import Path
from deployment_toolkit.tasks.running import ThisProcess
from tests.widedeep.preprocessing.tasks.test_preprocessing_tasks import PARTS, kill_this_process
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess

raw, output, moment, left = sys.argv[1:]
left = int(left)

def count():
    global left
    left -= 1
    return left or kill_this_process()

class Killed(ThisProcess):
    def run(self, function, tasks):
        for key, result in super().run(function, tasks):
            moment == "after a task" and count()
            yield key, result

really = Path.replace
Path.replace = lambda *paths: (moment == "at a rename" and count(), really(*paths))[1]
preprocess(PreprocessingOptions(Path(raw), Path(output)), Killed(1), PARTS)
"""


def test_killed_job_goes_on_with_what_is_not_done(
    few_raw: Path, files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(18)
    done: set[str] = set()
    for moment, count in (("at a rename", chance.randrange(4, 20)), ("after a task", chance.randrange(2, 10))):
        with pytest.raises(ProcessError) as raised:
            command: list[str | Path] = [sys.executable, "-c", PROGRAM, few_raw, tmp_path / "out", moment, str(count)]
            run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, log_path=tmp_path.with_suffix(".log"))
        assert raised.value.returncode == -signal.SIGKILL
        assert [path.name for path in tmp_path.iterdir()] == [".out.unfinished"]
        lines = (tmp_path / ".out.unfinished" / "done.jsonl").read_text().splitlines()
        done, before = {json.loads(line)[0] for line in lines}, done
        assert len(done) == len(lines) and done > before
    cluster = Watched()
    with caplog.at_level(logging.INFO):
        preprocess(PreprocessingOptions(few_raw, tmp_path / "out"), cluster, PARTS)
    assert f"going on with unfinished work: {len(done)} tasks are done already" in caplog.text
    assert cluster.ran and done.isdisjoint(cluster.ran)
    assert _files(tmp_path / "out") == files
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_unfinished_work_on_other_inputs_is_begun_anew_with_a_word(
    raw: Path, files: Files, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = PreprocessingOptions(raw, tmp_path / "out")
    with pytest.raises(ClusterError):
        preprocess(options, Watched("join 000000"), PARTS)
    assert "the same command goes on with it; remove the folder" in caplog.text
    text = (raw / CLICKS).read_text()
    (raw / CLICKS).write_text(text.replace("display_id", "Display_ID"))  # the same rows
    cluster = Watched()
    preprocess(options, cluster, PARTS)
    assert "thrown away and begun anew, because of other clicks_train.csv\n" in caplog.text
    assert cluster.ran[0].startswith("documents")
    assert _files(tmp_path / "out") == files


def test_work_of_a_running_process_is_not_touched(few_raw: Path, tmp_path: Path) -> None:
    options = PreprocessingOptions(few_raw, tmp_path / "out")

    class Second(Watched):
        def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Results:
            preprocess(options, Watched(), PARTS)
            yield from super().run(function, tasks)

    with pytest.raises(DataError, match=rf"process {os.getpid()} is making the same output in .*: wait for it"):
        preprocess(options, Second(), PARTS)


@pytest.mark.usefixtures("as_over_nfs")
def test_parquet_and_many_files_give_the_files_of_csv_and_leave_nothing(
    few_raw: Path, files: Files, tmp_path: Path
) -> None:
    raw, elsewhere = tmp_path / "raw", tmp_path / "elsewhere"
    for folder in (raw / "clicks_train", raw / META, elsewhere):
        folder.mkdir(parents=True)
    header, *lines = (few_raw / CLICKS).read_text().splitlines(keepends=True)
    for number, start in enumerate(range(0, len(lines), 30)):
        (raw / "clicks_train" / f"part-{number}.csv").write_text("".join([header, *lines[start : start + 30]]))
    assert (raw / "clicks_train" / "part-10.csv").exists()  # after part-2
    (raw / "clicks_train" / "_SUCCESS").touch()
    events = pd.read_csv(few_raw / EVENTS, na_values=["\\N"])
    events["platform"] = events["platform"].astype("Int8")
    for number in range(3):
        rows = events.iloc[number * 20 : (number + 1) * 20]
        rows.to_parquet(elsewhere / f"e{number}.parquet", row_group_size=7, index=False)
    meta = pd.read_csv(few_raw / META)
    meta["publish_time"] = pd.to_datetime(meta["publish_time"]).dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")
    meta.rename(columns=str.upper).to_parquet(raw / META / "all.parquet", index=False)
    pd.read_csv(few_raw / PROMOTED).astype("int32").to_parquet(raw / "promoted_content.parquet", index=False)
    for name in TAGS.values():
        table = pd.read_csv(few_raw / name)
        table[table.columns[1]] = table[table.columns[1]].astype("category")
        table.to_parquet(raw / f"{name}.parquet", index=False)
    options = PreprocessingOptions(raw, tmp_path / "out", tables=[f"events={elsewhere}/e*.parquet"])
    preprocess(options, Watched(), PARTS)
    assert _files(tmp_path / "out") == files
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out", "raw"]


def test_error_in_a_part_names_file_line_and_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    lines = (raw / CLICKS).read_text().splitlines()
    lines[201] = "1,2,7"
    (raw / CLICKS).write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"clicks_train\.csv: column clicked holds 7 in line 202: it must be 0 or 1$"):
        preprocess(PreprocessingOptions(raw, tmp_path / "out"), Watched(), PARTS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw"]


BAD_PARQUET: dict[str, tuple[dict[str, Any], str]] = {
    "value": ({"display_id": [1, 2], "ad_id": [3, 4], "clicked": [0, 2]}, "column clicked holds 2 in row 1: it must"),
    "null": ({"display_id": [1, None], "ad_id": [3, 4], "clicked": [0, 1]}, "column display_id is empty in row 1: "),
    "fraction": ({"display_id": [1, 2.5], "ad_id": [3, 4], "clicked": [0, 1]}, "display_id is of type double and can"),
    "list": ({"display_id": [[1]], "ad_id": [3], "clicked": [0]}, r"display_id is of type list<.* can't be read as"),
    "column": ({"display_id": [1], "clicked": [0]}, "lacks the column ad_id; it has display_id, clicked: name it so"),
    "twice": ({"display_id": [1], "ad_id": [1], "AD_ID": [1], "clicked": [0]}, "has the column ad_id twice: remove"),
}


@pytest.mark.parametrize(("columns", "message"), BAD_PARQUET.values(), ids=BAD_PARQUET)
def test_parquet_that_cannot_be_meant_is_refused(
    columns: dict[str, Any], message: str, raw: Path, tmp_path: Path
) -> None:
    (raw / CLICKS).unlink()
    pd.DataFrame(columns).to_parquet(raw / "clicks_train.parquet", index=False)
    with pytest.raises(DataError, match=rf"clicks_train\.parquet.*{message}") as raised:
        preprocess(PreprocessingOptions(raw, tmp_path / "out"), Watched(), PARTS)
    assert "\n" not in str(raised.value)


def test_files_of_two_kinds_are_refused_as_they_may_hold_the_same_rows(raw: Path, tmp_path: Path) -> None:
    folder = raw / "clicks_train"
    folder.mkdir()
    shutil.move(raw / CLICKS, folder / "a.csv")
    pd.read_csv(folder / "a.csv").to_parquet(folder / "b.parquet", index=False)
    with pytest.raises(DataError, match=r"holds parquet, such as b\.parquet, and CSV, such as a\.csv: keep the files"):
        preprocess(PreprocessingOptions(raw, tmp_path / "out"), Watched(), PARTS)
    with pytest.raises(UsageError, match="--tables clicks=x: give NAME=PATTERN; the names are clicks_train, events"):
        PreprocessingOptions(raw, tmp_path / "out", tables=["clicks=x"])


def test_display_that_no_task_could_hold_is_refused(few_raw: Path, tmp_path: Path) -> None:
    layout = dataclasses.replace(PARTS, sample_rows=1, most_display_rows=3)
    with pytest.raises(DataError, match=r"^clicks_train\.csv: display_id \d+ is in \d+ rows, .* 3 at most: give each"):
        preprocess(PreprocessingOptions(few_raw, tmp_path / "out"), layout=layout)
    assert not list(tmp_path.iterdir())


def test_of_a_display_that_is_there_often_each_run_gives_one_event(few_raw: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    header, *lines = (few_raw / EVENTS).read_text().splitlines()
    later = ",".join(["x" if name == "geo_location" else "{}" for name in header.split(",")])
    again = [later.format(*line.split(",")) for line in lines] * 2
    (tmp_path / "raw" / EVENTS).write_text("\n".join([header, *lines, *again]))
    spans = spans_of(find_tables(tmp_path / "raw", EVENTS), sys.maxsize)
    keep_list(tmp_path, deal(spans, None, 2**31, tmp_path, 0, dataclasses.replace(PARTS, run_rows=1 << 20)))
    events = read_range(tmp_path, None, None, np.arange(2**10))
    assert len(events["display_id"]) == len(set(events["display_id"])) == len(lines)
    assert "x" not in events["geo_location"]


@pytest.mark.parametrize(
    ("cause", "kind"),
    [
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), DataError),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), DataError),
        (gzip.BadGzipFile("CRC check failed"), FaultyDataError),
        (None, FaultyDataError),
    ],
)
def test_work_is_thrown_away_for_faults_of_data_alone(cause: OSError | None, kind: type[DataError]) -> None:
    with pytest.raises(DataError) as raised, faults_of_data():
        raise DataError("x") from cause
    assert type(raised.value) is kind


def test_worker_with_other_packages_is_refused() -> None:
    other = environment() | {"packages": "Python 3.8, pandas 1.0"}
    with pytest.raises(ClusterError, match=r"another version of packages: Python .* instead of Python 3\.8"):
        checked(other, len, ([],))
    assert checked(environment(), len, ([1],)) == 1


def test_rows_of_a_bucket_are_bounded_for_any_ids() -> None:
    generator = np.random.default_rng(5)
    for ids in (
        np.arange(20_000),
        generator.integers(0, 2**62, 20_000),
        (generator.pareto(0.3, 20_000) * 1e3).clip(0, 2**60).astype(np.int64),
        np.repeat(generator.integers(0, 2**40, 40), 500),
    ):
        runs = [np.sort(run) for run in np.array_split(generator.permutation(ids), 7)]
        samples = np.concatenate([run[63::64] for run in runs])
        cuts = boundaries(samples, 64, 2_048)
        rows = np.bincount(np.searchsorted(cuts, ids, side="right"))
        largest_display = np.unique(ids, return_counts=True)[1].max()
        assert rows.max() <= 2_048 + 7 * 64 + largest_display
        assert len(rows) >= 20_000 // (2_048 + 7 * 64 + largest_display)


def test_bounds_of_ten_billion_clicks_are_those_of_the_page() -> None:
    """docs/preprocessing.md: 24 bytes of text for a click, 60 for each of 2 * 10^9 events."""
    layout, clicks, events = Layout(), 10**10, 2 * 10**9
    deals = [rows * size // layout.piece(rows * size) + 1 for rows, size in ((clicks, 24), (events, 60))]
    runs = [rows // layout.run_rows + deal + 1 for rows, deal in zip((clicks, events), deals, strict=True)]
    bucket = layout.bucket(clicks)
    buckets = -(-clicks // bucket) + 1
    largest = bucket + layout.sample_rows * runs[0] + 50_000
    parts = clicks // layout.file_rows + 2
    page = (ROOT / "docs" / "preprocessing.md").read_text()
    for told in (
        f"| tasks of *deal* | {deals[0]:,} + {deals[1]:,} |",
        f"| runs | at most {runs[0]:,} + {runs[1]:,} |",
        f"| buckets, files of joined rows | {buckets:,}, {2 * buckets:,} |",
        f"| clicks of a bucket | {bucket / 1e6:.1f} million, at most {largest / 1e6:.1f} million |",
        f"| files of the data set | {parts:,} |",
        f"| openings of runs | {buckets * sum(runs) / 1e6:.1f} million |",
    ):
        assert told in page
    for size in (10**6, 10**11, 10**13, 10**15):  # bytes, and clicks
        assert -(-size // layout.piece(size)) <= max(1024, size >> 28)
        assert -(-size // layout.bucket(size)) <= max(1024, size >> 21)


def _preprocessed(raw_dir: Path, output: Path, layout: Layout) -> Files:
    preprocess(PreprocessingOptions(raw_dir, output), layout=layout)
    return _files(output)


def _files(folder: Path) -> Files:
    """Contents of all files by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
