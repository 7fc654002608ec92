"""The folder of unfinished work: which tasks are done, and their files, so that a job goes on after it was killed.

``.<output>.unfinished`` beside the output holds ``plan.json``, what the work was begun with; ``done.jsonl``, a line
with the result of each task that is done; ``lock``, which the process that works keeps locked; and a folder of the
tasks' files, whose name depends on the plan: a task of an earlier plan that still runs somewhere can't write into a
later one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.locks import hold_lock, lock_holder, open_lock_file
from deployment_toolkit.tasks.running import Cluster, ClusterTask
from widedeep.preprocessing.tasks.layout import Layout
from widedeep.preprocessing.tasks.plan import require_environment
from widedeep.preprocessing.tasks.steps import FaultyDataError, Steps, faults_of_data, shown_step

LOGGER = logging.getLogger("preprocessing")

_PLAN, _DONE, _LOCK = "plan.json", "done.jsonl", "lock"


class Work(Steps):
    """Runs the tasks of a step that are not done, on a cluster."""

    def __init__(self, folder: Path, plan: Mapping[str, str], layout: Layout, cluster: Cluster) -> None:
        super().__init__(layout)
        text = json.dumps([str(folder), *sorted(plan.items())])
        self.data = folder / hashlib.sha256(text.encode()).hexdigest()[:12]
        self._journal = folder / _DONE
        self._plan = dict(plan)
        self._cluster = cluster
        self._done = _read_journal(self._journal)
        self.data.mkdir(exist_ok=True)

    @property
    def tasks_done(self) -> int:
        """Number of tasks that an earlier start has done."""
        return len(self._done)

    def run(
        self,
        step: str,
        function: Callable[..., Any],
        tasks: Mapping[str, tuple[Any, ...]],
        weights: Mapping[str, int] | None = None,
        unit: str = " task",
        made: Mapping[str, Path] | None = None,
    ) -> dict[str, Any]:
        done = {key for key in tasks if f"{step} {key}" in self._done and (made is None or made[key].exists())}
        results = {key: self._done[f"{step} {key}"] for key in done}
        keys = {f"{step} {key}": key for key in tasks if key not in results}
        environment = {name: self._plan[name] for name in ("this project's code", "packages")}
        pending = (ClusterTask(name, (environment, function, tasks[key])) for name, key in keys.items())
        with shown_step(step, tasks, weights, unit) as bar:
            bar.update(sum(weights[key] for key in results) if weights else len(results))
            for name, result in self._cluster.run(checked, pending):
                key = keys[name]
                results[key] = self._note(name, result)
                bar.update(weights[key] if weights else 1)
        return results

    def _note(self, key: str, result: Any) -> Any:
        line = json.dumps([key, result])
        with self._journal.open("a") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        return json.loads(line)[1]  # as it is read when the work goes on


@contextlib.contextmanager
def work_folder(folder: Path, plan: Mapping[str, str], layout: Layout, cluster: Cluster) -> Iterator[Work]:
    """Yields the work that is to be done, or what is left of it if ``plan`` is what it was begun with, and removes the
    folder at the end. If the block fails it stays, unless the raw files are at fault. Raises DataError if another
    process is at this work."""
    with _locked(folder):
        _begin_or_go_on(folder, plan)
        work = Work(folder, plan, layout, cluster)
        if work.tasks_done:
            LOGGER.info("going on with unfinished work: %s tasks are done already", f"{work.tasks_done:,}")
        try:
            yield work
        except FaultyDataError:
            _empty(folder)
            raise
        except FileNotFoundError as error:
            if not str(error.filename).startswith(f"{work.data}/"):
                raise
            raise DataError(
                f"{error.filename} is not there, though an earlier task has made it: all hosts must see {folder} under "
                "this path; if a file was removed, remove that folder and start again"
            ) from error
        except BaseException:
            LOGGER.warning(
                "what is done stays in %s: the same command goes on with it; remove the folder if you don't want to",
                folder,
            )
            raise
        _empty(folder)


def checked(environment: dict[str, str], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Task: calls the function, where code and packages are those of the command."""
    require_environment(environment)
    with faults_of_data():
        return function(*args)


def _begin_or_go_on(folder: Path, plan: Mapping[str, str]) -> None:
    earlier = _read_plan(folder / _PLAN)
    if earlier == plan:
        return
    if earlier is not None:
        different = ", ".join(name for name in {**plan, **earlier} if plan.get(name) != earlier.get(name))
        LOGGER.warning("unfinished work is thrown away and begun anew, because of other %s", different)
    _remove_all(folder, but=_LOCK)
    write_text(folder / _PLAN, json.dumps(plan, indent=1))


def _empty(folder: Path) -> None:
    """Removes what the folder holds, the plan first: what a kill leaves without it, the next start throws away."""
    (folder / _PLAN).unlink(missing_ok=True)
    _remove_all(folder, but=_LOCK)
    if any(item.name != _LOCK for item in folder.iterdir()):
        LOGGER.warning("%s holds what a worker still reads or writes: remove it when no worker runs", folder)
    (folder / _LOCK).unlink(missing_ok=True)


def _remove_all(folder: Path, *, but: str) -> None:
    """Removes the folder's content, as far as no worker is at it."""
    for item in folder.iterdir():
        if item.is_dir():
            shutil.rmtree(item, ignore_errors=True)
        elif item.name != but:
            item.unlink()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Makes the folder and keeps it locked. Removes it in the end if it is empty: after the lock is closed, because
    over NFS an open file keeps its folder."""
    file = _lock(folder)
    try:
        yield
    finally:
        os.close(file)
        with contextlib.suppress(OSError):
            folder.rmdir()


def _lock(folder: Path) -> int:
    """The open lock of the folder."""
    path = folder / _LOCK
    while True:
        folder.mkdir(exist_ok=True)
        try:
            file = open_lock_file(path)
        except FileNotFoundError:
            continue  # its process has just removed the folder
        try:
            hold_lock(file, lambda file=file: _refuse(folder, file))  # type: ignore[misc]
            if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # of a folder that its process has just emptied


def _refuse(folder: Path, file: int) -> None:
    holder = lock_holder(file)
    process = "another process" if holder is None else f"process {holder}"
    raise DataError(f"{process} is making the same output in {folder}: wait for it, or give another --output-dir")


def _read_plan(path: Path) -> dict[str, str] | None:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _read_journal(path: Path) -> dict[str, Any]:
    """Results by step and key. A line that is cut or damaged is left out: its task is done again."""
    done: dict[str, Any] = {}
    with contextlib.suppress(FileNotFoundError):
        lines = path.read_bytes().split(b"\n")
        for line in lines[:-1]:
            with contextlib.suppress(ValueError, TypeError):
                key, result = json.loads(line)
                done[key] = result
        if lines[-1]:
            with path.open("rb+") as file:
                file.truncate(path.stat().st_size - len(lines[-1]))
    return done
