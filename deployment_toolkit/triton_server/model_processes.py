"""Processes of models in Triton's Python backend. If one ends, the server goes on saying that the model is ready, while
each of its requests fails."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil

from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_STUB = "triton_python_backend_stub"
_BACKEND = "python"


def load_anew(folder: Path) -> None:
    """Makes the server load the model in this folder of its repository anew at the next request to load it, since the
    files of its versions seem to have changed; a new date of the configuration would not do. Raises OSError if the
    folder can't be written."""
    for version in filter(Path.is_dir, folder.iterdir()):
        os.utime(version)


class ModelProcesses:
    """Watches the models of a server that this process has started. ``mend`` is called with a model whose process has
    ended and what happened; without it, the end is only logged."""

    def __init__(self, server: TritonServer, mend: Callable[[str, str], None] | None = None) -> None:
        self._server, self._mend = server, mend
        self._suspects: set[str] = set()
        self._broken: set[str] = set()

    def look(self) -> None:
        """Logs or mends each model that has lacked a process at two looks. Call it every second or two."""
        lacking = self._lacking()
        # A model that is just being loaded or unloaded may lack a process for a moment.
        ended = lacking & self._suspects
        for name in ended - self._broken:
            self._tell(name)
        self._suspects, self._broken = lacking, ended

    def _lacking(self) -> set[str]:
        """Ready models of the Python backend with fewer processes than instances."""
        processes = self._count_processes()
        lacking = set()
        with contextlib.suppress(ServerError):  # the server has ended, or unloads the model just now
            for name in self._server.ready_models():
                config = self._server.model_config(name)
                if config.get("backend") != _BACKEND:  # as an ensemble, which has no instances
                    continue
                groups = config["instance_group"]
                if processes[name] < sum(group["count"] * max(1, len(group.get("gpus", ()))) for group in groups):
                    lacking.add(name)
        return lacking

    def _count_processes(self) -> Counter[str]:
        """Processes of the Python backend that run, by model."""
        count: Counter[str] = Counter()
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._server.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    line = process.cmdline()  # empty if the process has ended
                    if line and Path(line[0]).name == _STUB:
                        count[Path(line[1]).parent.parent.name] += 1  # MODEL/VERSION/model.py
        return count

    def _tell(self, name: str) -> None:
        problem = f"a process of model {name} has ended, as when memory runs out"
        if self._mend is not None:
            self._mend(name, problem)
        else:
            logger.error(
                "%s: its requests fail, though the server calls it ready; deploy it again, or start the server with "
                "--restart-unhealthy",
                problem,
            )
