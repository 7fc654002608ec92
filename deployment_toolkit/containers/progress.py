"""Progress of a container engine while it pulls or builds an image."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from deployment_toolkit.errors import ContainerError
from deployment_toolkit.process import last_lines

logger = logging.getLogger("containers")

_STEP = re.compile(r"step \d+/\d+", re.IGNORECASE)
_LINE_LENGTH = 100
_REMEMBERED = 20
_TOLD = 5


class EngineProgress:
    """Logs each step of a build when it begins, and the current state every ``interval_s`` seconds. ``key`` is the
    field of the engine's answers that holds the text: ``stream`` for a build, ``status`` for a pull."""

    def __init__(self, key: str, interval_s: float = 10.0) -> None:
        self._key = key
        self._interval_s = interval_s
        self._said: list[str] = []
        self._step = ""
        self._ended = threading.Event()

    def follow(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Reads all the engine's answers. Raises ContainerError with the last lines if one of them is an error."""
        teller = threading.Thread(target=self._tell, name="progress of the engine", daemon=True)
        teller.start()
        try:
            for part in parts:
                self._take(part)
        finally:
            self._ended.set()
            teller.join()

    def _take(self, part: Mapping[str, Any]) -> None:
        if "error" in part:
            raise ContainerError(last_lines("\n".join([*self._said, str(part["error"])]), _TOLD))
        text = f"{part.get(self._key, '')} {part.get('progress', '')}".strip()
        if not text:
            return
        self._said = [*self._said[-_REMEMBERED:], text]
        step = _STEP.match(text)
        if step:
            self._step = step[0]
            logger.info("%s", " ".join(text.split())[:_LINE_LENGTH])
        else:
            logger.debug("%s", text)

    def _tell(self) -> None:
        while not self._ended.wait(self._interval_s):
            last = self._said[-1] if self._said else ""
            logger.info("still at it: %s", f"{self._step} {' '.join(last.split())[-_LINE_LENGTH:]}".strip())
