"""Processes of models in Triton's Python backend. If one ends, the server goes on saying that the model is ready, while
each of its requests fails."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import psutil

from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_STUB = "triton_python_backend_stub"
_BACKEND = "python"
_LOAD_TIMEOUT_S = 120.0


class ModelProcesses:
    """Watches the models of a server that this process has started. ``restart`` loads a model whose process has ended
    again; without it, the end is only logged."""

    def __init__(self, server: TritonServer, *, restart: bool) -> None:
        self._server, self._restart = server, restart
        self._models: dict[int, str] = {}  # by process id, at the last look
        self._suspects: set[str] = set()
        self._broken: set[str] = set()

    def look(self) -> None:
        """Logs each model that has lost a process since the last look, and loads it again if asked. Call it about once
        a second."""
        running = self._running()
        ended = {name for pid, name in self._models.items() if pid not in running}
        self._models, suspects, self._suspects = running, self._suspects, set()
        for name in ended | suspects | self._broken:
            if self._is_whole(name):
                self._broken.discard(name)
            elif name not in self._broken and name in suspects:
                self._broken.add(name)
                self._mend(name)
            elif name not in self._broken:
                self._suspects.add(name)  # it may be about to be unloaded or loaded anew, so the next look decides

    def _running(self) -> dict[int, str]:
        """Models of the server's processes that run, by process id."""
        found = {}
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._server.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error, StopIteration):
                    line = process.cmdline()  # empty if the process has ended
                    if line and Path(line[0]).name == _STUB:
                        found[process.pid] = Path(line[1]).parent.parent.name  # MODEL/VERSION/model.py
        return found

    def _is_whole(self, name: str) -> bool:
        """True if a process runs for each instance of the model, or the model is not loaded."""
        try:
            if not self._server.has_loaded(name):
                return True
            config = self._server.model_config(name)
        except ServerError:
            return True
        instances = sum(group["count"] * max(1, len(group.get("gpus", ()))) for group in config["instance_group"])
        return config.get("backend") != _BACKEND or list(self._models.values()).count(name) >= instances

    def _mend(self, name: str) -> None:
        remedy = "load it again, or start the server with --restart-unhealthy"
        logger.error(
            "a process of model %s has ended, as when memory runs out: its requests fail, though the server calls it "
            "ready; %s",
            name,
            "it is loaded again" if self._restart else remedy,
        )
        if not self._restart:
            return
        try:
            self._server.unload_model(name)
            self._server.wait_unloaded(name, _LOAD_TIMEOUT_S)
            self._server.load_model(name, _LOAD_TIMEOUT_S)
        except ServerError as error:
            logger.error("model %s is not loaded again: %s", name, error)
