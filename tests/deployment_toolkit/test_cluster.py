from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cluster import ClusterOptions, open_cluster
from deployment_toolkit.errors import ClusterError, DataError, UsageError
from deployment_toolkit.process import environment, run
from deployment_toolkit.tasks.running import Cluster, ClusterTask, ThisProcess, require_wanted


def square(number: int) -> int:
    return number * number


def process_of(number: int) -> int:
    time.sleep(0.2)
    return os.getpid()


def full(path: str) -> None:
    raise OSError(28, os.strerror(28), path)


def refuse(text: str) -> None:
    raise DataError(text)


def die(marker: str, times: int) -> int:
    """Kills its worker until the file has so many letters; then their number."""
    with Path(marker).open("a") as file:
        file.write("x")
    if Path(marker).stat().st_size <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return Path(marker).stat().st_size


def tasks(count: int) -> Iterator[ClusterTask]:
    return (ClusterTask(f"task-{number}", (number,)) for number in range(count))


@pytest.fixture(scope="module")
def workers() -> Iterator[Cluster]:
    with open_cluster(ClusterOptions(n_workers=2)) as cluster:
        yield cluster


@pytest.mark.parametrize("at_once", [1, 3])
def test_tasks_run_in_this_process(at_once: int) -> None:
    results = dict(ThisProcess(at_once).run(square, tasks(7)))
    assert results == {f"task-{number}": number * number for number in range(7)}
    with pytest.raises(DataError, match="no such row"):
        list(ThisProcess(at_once).run(refuse, [ClusterTask("a", ("no such row",))]))


def wait_until_given_up(number: int) -> int:
    deadline = time.monotonic() + 60
    while number and time.monotonic() < deadline:
        require_wanted()
        time.sleep(0.01)
    return number


def test_threads_learn_that_they_are_given_up() -> None:
    started = time.monotonic()
    with closing(ThisProcess(3).run(wait_until_given_up, tasks(9))) as results:
        assert next(results) == ("task-0", 0)
    assert time.monotonic() - started < 30


def test_tasks_run_in_workers_at_the_same_time(workers: Cluster) -> None:
    pids = {pid for _, pid in workers.run(process_of, tasks(6))}
    assert len(pids) == 2 and os.getpid() not in pids


def test_cluster_of_this_host_listens_on_free_ports_of_it_alone(workers: Cluster) -> None:
    this = psutil.Process()
    started = [item for item in this.children(recursive=True) if "spawn_main" in " ".join(item.cmdline())]
    found = [item for process in (this, *started) for item in process.net_connections()]
    places = {item.laddr for item in found if item.status == psutil.CONN_LISTEN}
    assert len(places) > 3 and {place.ip for place in places} == {"127.0.0.1"}
    assert 8787 not in {place.port for place in places}  # Dask's own, which another command may have


def test_errors_of_workers_arrive_as_they_were_raised(workers: Cluster) -> None:
    with pytest.raises(DataError, match="^x.parquet: row 3 is bad$"):
        list(workers.run(refuse, [ClusterTask("refused", ("x.parquet: row 3 is bad",))]))
    with pytest.raises(DataError, match="^/disk/a can't be used: No space left on device; make room"):
        list(workers.run(full, [ClusterTask("full", ("/disk/a",))]))
    with pytest.raises(TypeError):  # a bug
        list(workers.run(square, [ClusterTask("bug", ("text",))]))
    assert dict(workers.run(square, tasks(3))) == {"task-0": 0, "task-1": 1, "task-2": 4}


def slow_square(number: int) -> int:
    time.sleep(0.5)
    return number * number


def test_tasks_of_the_same_name_are_not_taken_for_each_other(workers: Cluster) -> None:
    def of(number: int) -> list[tuple[str, int]]:
        return list(workers.run(slow_square, [ClusterTask("part", (number,))]))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(of, [2, 3])) == [[("part", 4)], [("part", 9)]]


def test_tasks_that_are_given_up_leave_the_workers_free(workers: Cluster) -> None:
    with closing(workers.run(process_of, tasks(100))) as results:
        next(results)
    started = time.monotonic()
    assert len(dict(workers.run(square, tasks(3)))) == 3
    assert time.monotonic() - started < 5


def test_dead_worker_is_told_and_its_task_runs_again(
    workers: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "cluster")
    assert dict(workers.run(die, [ClusterTask("once", (str(tmp_path / "marker"), 1))])) == {"once": 2}
    assert any("has died; another one takes over what it had: once" in item.message for item in caplog.records)


def test_task_that_kills_every_worker_is_given_up(workers: Cluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="deadly: each of 4 workers died that had it, the last at tcp://127.0.0.1:"):
        list(workers.run(die, [ClusterTask("deadly", (str(tmp_path / "marker"), 100))]))
    assert (tmp_path / "marker").stat().st_size == 4


def test_missing_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployment_toolkit.cluster._CONNECT_S", 1.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with (
            pytest.raises(ClusterError, match=f"no Dask scheduler answers at {address} .*: start it"),
            open_cluster(ClusterOptions(scheduler_address=address)),
        ):
            pass
    with (
        pytest.raises(ClusterError, match="there is no --scheduler-file .*none.json: start the scheduler"),
        open_cluster(ClusterOptions(scheduler_file=tmp_path / "none.json")),
    ):
        pass
    with pytest.raises(UsageError, match="--scheduler-address and --n-workers name different places"):
        ClusterOptions(scheduler_address=address, n_workers=1)


def test_dask_is_not_imported_without_a_cluster(tmp_path: Path) -> None:
    code = (
        "import sys, score_dataset\n"
        "from deployment_toolkit.cluster import ClusterOptions, open_cluster\n"
        "with open_cluster(ClusterOptions()) as cluster:\n    pass\n"
        "print({'dask', 'distributed'} & set(sys.modules))"
    )
    env = environment(None, prepend={"PYTHONPATH": [ROOT]})
    assert run([sys.executable, "-c", code], log_path=tmp_path / "log", env=env).stdout == "set()\n"
