"""Keeps a server's models answering: loads a sick model again, and where that does not help, has the server started
again."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import InferenceError, ServerError
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.health.question import Question, within
from deployment_toolkit.triton_server.model_processes import load_anew
from deployment_toolkit.triton_server.remote import TritonServer

logger = logging.getLogger("triton")

_ENSEMBLE = "ensemble"
_ASK_S = 5.0  # from one look at a healthy model to the next; a question takes some milliseconds
_AGAIN_S = 1.0  # to the second look at a model that seems sick
_ANSWER_S = 5.0
_DEAF_S = 60.0
_LOAD_TIMEOUT_S = 120.0
_MOST_LOADS, _LOADS_WITHIN_S = 3, 600.0  # of one model
_RESTARTS_WITHIN_S = 3600.0


@dataclass
class _Watched:
    """What is known of a model."""

    config: dict[str, Any] | None = None  # with which it has answered
    successes: int = 0  # requests at the last look; the Python backend counts those answered with an error too
    is_suspect: bool = False
    is_given_up: bool = False
    next_look: float = 0.0
    loads: list[float] = field(default_factory=list)
    is_told: bool = False  # that it can't be asked


class Supervisor:
    """Asks each ready model of a server for one row. It mends a model that answers with an error twice, or that twice
    answers neither this row nor any other request. Servers of ``repository`` come one after the other: after ``begin``,
    call ``look`` every second or so, and start the server again if it returns a reason. At most ``most_restarts`` are
    asked for within an hour; then a sick model is left as it is. Each step is logged."""

    def __init__(self, repository: Path, most_restarts: int) -> None:
        self._repository, self._most_restarts = repository, most_restarts
        self._models: defaultdict[str, _Watched] = defaultdict(_Watched)
        self._loaded: list[str] = []
        self._restarts: list[float] = []
        self._reason: str | None = None
        self._heard = 0.0

    def begin(self, server: TritonServer) -> None:
        """Watches a new server, after it has loaded the models that the one before had."""
        self._server, self._reason, self._heard = server, None, time.monotonic()
        self._url = ServerUrl.parse(server.http_url)  # a gRPC request that is given up can crash Triton 2.51
        for name in self._loaded:
            self._load(name)
            self._models[name].next_look = 0.0
            self._models[name].is_suspect = False

    def look(self) -> str | None:
        """Mends what is sick; returns why the server has to be started again, if it has to."""
        names = self._ready_models()
        if names is None:
            return self._reason or self._deaf()
        self._heard = time.monotonic()
        self._loaded = names
        for name in names:
            if time.monotonic() >= self._models[name].next_look:
                self._examine(name, self._models[name])
        return self._reason

    def mend(self, name: str, problem: str) -> None:
        """Loads the model again; asks for a restart of the server if that has been done often or does not help."""
        model = self._models[name]
        now = time.monotonic()
        model.loads = [moment for moment in model.loads if now - moment < _LOADS_WITHIN_S]
        if model.is_given_up or self._reason is not None:
            return
        model.is_suspect = False
        if len(model.loads) < _MOST_LOADS:
            model.loads.append(now)
            logger.error("model %s is loaded again: %s", name, problem)
            if self._load_anew(name) and self._answers(name, model):
                return
            problem = f"loading model {name} again did not help"
        else:
            problem = f"model {name} was loaded again {_MOST_LOADS} times within {_LOADS_WITHIN_S:g} s: {problem}"
        if self.may_restart(problem):
            model.loads.clear()
        else:
            model.is_given_up = True
            logger.error("model %s is left as it is: its requests fail, see the server's log", name)

    def may_restart(self, reason: str) -> bool:
        """Asks for a restart of the server, if there were not too many."""
        now = time.monotonic()
        self._restarts = [moment for moment in self._restarts if now - moment < _RESTARTS_WITHIN_S]
        if len(self._restarts) >= self._most_restarts:
            limit = f"--most-restarts allows {self._most_restarts} within an hour"
            logger.error("%s, and the server is not started again: %s", reason, limit)
            return False
        self._restarts.append(now)
        self._reason = reason
        return True

    def _examine(self, name: str, model: _Watched) -> None:
        """Asks a model; mends it if it is sick at two looks."""
        deadline = time.monotonic() + _ANSWER_S
        problem, question, is_answered = "", None, True
        try:
            question = Question.make(self._url, name, "", deadline)
            if question.config.get("platform") == _ENSEMBLE:  # its models are asked themselves
                return
            question.ask(self._url, deadline)
        except ServerError as error:
            problem, is_answered = str(error), isinstance(error, InferenceError)
        successes = self._successes(name)
        is_busy = not is_answered and (successes is None or successes != model.successes)
        model.successes = successes or 0
        model.next_look = time.monotonic() + _ASK_S
        was_suspect, model.is_suspect = model.is_suspect, False
        if question is not None and not problem:
            model.config, model.is_told, model.is_given_up = question.config, False, False
        elif model.config is None or (question is not None and question.config != model.config):
            self._tell(name, model, problem)  # it may never answer such a row
        elif question is not None:
            model.next_look = time.monotonic() + _AGAIN_S
            model.is_suspect = not is_busy
            if was_suspect and not is_busy:
                self.mend(name, problem)

    def _tell(self, name: str, model: _Watched, problem: str) -> None:
        if not model.is_told:
            model.is_told = True
            logger.warning("model %s can't be watched by asking it for a row: %s", name, problem)

    def _load_anew(self, name: str) -> bool:
        # It is not unloaded before: the server would wait for ever for requests that such a process has failed.
        try:
            load_anew(self._repository / name)
        except OSError as error:
            logger.error("model %s is not loaded again: %s", name, error)
            return False
        return self._load(name)

    def _load(self, name: str) -> bool:
        try:
            self._server.load_model(name, _LOAD_TIMEOUT_S)
        except ServerError as error:
            logger.error("model %s is not loaded again: %s", name, error)
            return False
        return True

    def _answers(self, name: str, model: _Watched) -> bool:
        """True if the model answers, or if it never has."""
        deadline = time.monotonic() + _ANSWER_S
        try:
            question = Question.make(self._url, name, "", deadline)
            question.ask(self._url, deadline)
        except ServerError as error:
            logger.error("model %s does not answer after it was loaded again: %s", name, error)
            return model.config is None
        logger.info("model %s answers again", name)
        return True

    def _successes(self, name: str) -> int | None:
        try:
            found = within(self._url, time.monotonic() + _ANSWER_S, lambda client: client.statistics(name, ""))
        except ServerError:
            return None
        return sum(int(version["inference_stats"]["success"]["count"]) for version in found["model_stats"])

    def _ready_models(self) -> list[str] | None:
        """Names of the models that the server calls ready; None if it answers over neither protocol."""
        for url in self._server.urls:
            try:
                return TritonServer.from_url(str(url)).ready_models()
            except ServerError:
                continue
        return None

    def _deaf(self) -> str | None:
        if self._server.poll() is not None or time.monotonic() - self._heard < _DEAF_S:
            return None
        self._heard = time.monotonic()
        self.may_restart(f"the server has not answered for {_DEAF_S:g} s")
        return self._reason
