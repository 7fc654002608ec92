"""Independent tasks on the workers of a Dask cluster, or in this process; the only module that imports Dask.

``open_cluster(options)`` yields a ``Cluster``; its ``run(function, tasks)`` yields ``(key, result)`` as tasks end. The
function has to be one of a module, because workers import it by name; its arguments and results are pickled. A task
may run twice, if its worker has died or is taken for dead: it has to write its files beside their names and rename
them. Without an option of a cluster nothing of Dask is imported here. (NVTabular, which is built on Dask, imports it.)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import ClusterError, UsageError, require_at_least
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.options.params import option
from deployment_toolkit.tasks.failures import TaskFailure, called
from deployment_toolkit.tasks.running import Cluster, ClusterTask, ThisProcess, first_tasks

logger = logging.getLogger("cluster")

_ALLOWED_DEATHS = 3  # of workers that had the same task; Dask's default, which a scheduler elsewhere may change
_CONNECT_S = 30.0
_WORKERS_S = 120.0
_LOOK_S = 1.0
_WAITING_TASKS = 1  # for each worker, so that it has the next one when it is done
_KEY_MARK = "@"
_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class ClusterOptions:
    """Where tasks run: by default one after the other in this process, without Dask. Raises UsageError if two places
    are named."""

    scheduler_address: str | None = option("address of a running Dask scheduler: tcp://host:8786", None)
    scheduler_file: Path | None = option(
        "file in which a running Dask scheduler has written its address (its own --scheduler-file)", None
    )
    n_workers: int | None = option("worker processes to start on this host", None)

    def __post_init__(self) -> None:
        names = {"--scheduler-address": self.scheduler_address, "--scheduler-file": self.scheduler_file}
        given = [name for name, value in {**names, "--n-workers": self.n_workers}.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} name different places for the work: give one of them")
        if self.n_workers is not None:
            require_at_least("--n-workers", self.n_workers, 1)

    @property
    def is_elsewhere(self) -> bool:
        """True for a scheduler that this process doesn't start, whose workers may be on other hosts."""
        return self.scheduler_address is not None or self.scheduler_file is not None

    @property
    def is_here(self) -> bool:
        """True if tasks run in this process."""
        return not self.is_elsewhere and self.n_workers is None


@contextlib.contextmanager
def open_cluster(options: ClusterOptions, *, at_once: int = 1) -> Iterator[Cluster]:
    """Connects to a scheduler, or starts workers on this host, which end with this process. In this process,
    ``at_once`` tasks run at the same time, in threads. Raises ClusterError if the scheduler doesn't answer."""
    if options.is_here:
        yield ThisProcess(at_once)
        return
    with _silent_dask(), contextlib.ExitStack() as stack:
        client = _connect(options) if options.is_elsewhere else _start(options.n_workers or 1, stack)
        stack.callback(_close, client)
        cluster = _DaskCluster(client, str(client.scheduler.address))
        stack.callback(cluster.tell_no_more)
        yield cluster


class _DaskCluster(Cluster):
    def __init__(self, client: Any, address: str) -> None:
        self._client = client
        self._address = address
        self._without_workers_since: float | None = None
        self._tells = True
        client.subscribe_topic("all", self._tell)

    def run(self, function: Callable[..., Any], tasks: Iterable[ClusterTask]) -> Generator[tuple[str, Any], None, None]:
        self._require_workers()
        pending = iter(tasks)
        ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        running: dict[Any, str] = {}
        own = secrets.token_hex(8)
        try:
            while True:
                self._require_scheduler()
                for task in first_tasks(pending, self._room() - len(running)):
                    # Keys are the scheduler's: another command's task of the same name would be taken for this one.
                    key = f"{task.key}{_KEY_MARK}{own}"
                    with self._connection():
                        future = self._client.submit(called, function, task.args, key=key, pure=False)
                    running[future] = task.key
                    future.add_done_callback(ended.put)
                if not running:
                    return
                try:
                    future = ended.get(timeout=_LOOK_S)
                except queue.Empty:
                    self._require_alive()
                    continue
                key = running.pop(future)
                result = self._result(future, key)
                future.release()
                yield key, result
        finally:
            if running and self._client.status == "running":
                self._client.cancel(list(running), force=True)

    def _room(self) -> int:
        """Number of tasks that may be with the scheduler: workers come and go, and one waits while there are none."""
        workers = self._workers().values()
        return max(1, sum(int(worker["nthreads"]) + _WAITING_TASKS for worker in workers))

    def _workers(self) -> dict[str, Any]:
        with self._connection():
            return dict(self._client.scheduler_info()["workers"])

    def _require_workers(self) -> None:
        deadline = time.monotonic() + _WORKERS_S
        while not self._workers():
            self._require_alive()
            if time.monotonic() > deadline:
                raise self._no_workers()
            time.sleep(_LOOK_S / 10)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[None]:
        """For calls of the scheduler: raises ClusterError if it goes away meanwhile."""
        try:
            yield
        except (OSError, asyncio.CancelledError, concurrent.futures.CancelledError) as error:
            raise self._no_scheduler() from error
        except Exception as error:
            if self._client.status == "running":
                raise
            raise self._no_scheduler() from error

    def _require_scheduler(self) -> None:
        if self._client.status != "running":
            raise self._no_scheduler()

    def _require_alive(self) -> None:
        """Raises ClusterError if the scheduler is gone, or if there has been no worker for too long."""
        self._require_scheduler()
        if self._workers():
            self._without_workers_since = None
            return
        now = time.monotonic()
        self._without_workers_since = self._without_workers_since or now
        if now - self._without_workers_since > _WORKERS_S:
            raise self._no_workers()

    def _result(self, future: Any, key: str) -> Any:
        from distributed.scheduler import KilledWorker

        if future.status == "finished":
            with self._connection():
                result = future.result()
            if isinstance(result, TaskFailure):
                raise result.error()
            return result
        if future.status != "error":  # cancelled or lost with the connection
            raise self._no_scheduler()
        error = future.exception()
        if isinstance(error, KilledWorker):
            raise ClusterError(
                f"{key}: each of {error.allowed_failures + 1} workers died that had it, the last at "
                f"{error.last_worker.address}: look into the workers' logs and into the host's for lack of memory"
            ) from error
        if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == _PACKAGE:
            raise ClusterError(
                f"the workers of {self._address} can't import {error.name}: start them with this project's folder on "
                "PYTHONPATH, in its environment"
            ) from error
        raise error.with_traceback(future.traceback())

    def tell_no_more(self) -> None:
        """Workers that end from now on are meant to."""
        self._tells = False

    def _tell(self, event: tuple[float, Any]) -> None:
        """Logs the death of a worker, of which the scheduler tells."""
        told = event[1] if self._tells else None
        if isinstance(told, dict) and told.get("action") == "remove-worker" and not told.get("expected"):
            keys = map(str, told.get("processing-tasks") or ())
            tasks = ", ".join(sorted(key.partition(_KEY_MARK)[0] for key in keys)) or "nothing"
            logger.warning("worker %s has died; another one takes over what it had: %s", told.get("worker"), tasks)

    def _no_scheduler(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self._address} is gone: start it again and give the same command again; what is "
            "complete stays"
        )

    def _no_workers(self) -> ClusterError:
        return ClusterError(
            f"the scheduler at {self._address} has had no worker for {_WORKERS_S:g} s: start some with 'dask worker "
            f"{self._address}' and give the same command again; what is complete stays"
        )


def set_dask_options(options: dict[str, Any]) -> contextlib.AbstractContextManager[object]:
    """Sets options of Dask in this process, for a library that is built on it. In a ``with`` statement, they hold for
    its block."""
    import dask

    setting: contextlib.AbstractContextManager[object] = dask.config.set(options)
    return setting


# The type of what ``delayed`` makes.
Delayed = Any


def delayed(function: Callable[..., Any]) -> Callable[..., Delayed]:
    """Dask's ``delayed``, for the graphs of a library that is built on Dask."""
    from dask.delayed import delayed as dask_delayed

    made: Callable[..., Delayed] = dask_delayed(function)
    return made


def _connect(options: ClusterOptions) -> Any:
    from distributed import Client

    name = options.scheduler_address or options.scheduler_file
    if options.scheduler_file is not None and not options.scheduler_file.is_file():
        raise ClusterError(
            f"there is no --scheduler-file {name}: start the scheduler with 'dask scheduler --scheduler-file {name}'"
        )
    file = None if options.scheduler_file is None else str(options.scheduler_file)
    try:
        return Client(
            options.scheduler_address, scheduler_file=file, timeout=_CONNECT_S, set_as_default=False, name="wide-deep"
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise ClusterError(f"no Dask scheduler answers at {name} ({told}): start it, or check the address") from error


def _start(workers: int, stack: contextlib.ExitStack) -> Any:
    from distributed import Client, LocalCluster

    cluster = LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host=LOOPBACK,
        dashboard_address=None,
        scheduler_kwargs={"dashboard_address": f"{LOOPBACK}:0"},  # of its page of health, else 8787 with a warning
        memory_limit=0,  # Dask would count the engine's memory as a leak and pause the worker
        silence_logs=logging.CRITICAL,
    )
    stack.callback(cluster.close)
    return Client(cluster, set_as_default=False, name="wide-deep")


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):  # of a scheduler that is gone
        client.close(timeout=_LOOK_S)


@contextlib.contextmanager
def _silent_dask() -> Iterator[None]:
    """Dask's settings for this process and the workers that it starts. Its own log is silent: a worker's death is
    told in one line, an error ends in one."""
    import dask
    import distributed  # noqa: F401 sets up its loggers

    for name in ("distributed", "distributed.client", "tornado", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    settings = {
        "distributed.scheduler.allowed-failures": _ALLOWED_DEATHS,
        "distributed.worker.profile.enabled": False,
        "distributed.nanny.pre-spawn-environ": {},  # it would set the threads of this process's libraries, too
        "distributed.comm.timeouts.connect": f"{_CONNECT_S}s",
    }
    with dask.config.set(settings):
        yield
