"""Progress that a container engine reports while it pulls or builds an image."""

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
    """Logs the steps of a build as they begin, and every ``interval_s`` seconds where it is. ``key`` is where the
    engine's answers have their text: ``stream`` of a build, ``status`` of a pull."""

    def __init__(self, key: str, interval_s: float = 10.0) -> None:
        self._key = key
        self._interval_s = interval_s
        self._said: list[str] = []
        self._step = ""
        self._ended = threading.Event()

    def follow(self, parts: Iterable[Mapping[str, Any]]) -> None:
        """Returns when the engine has said all. Raises ContainerError with its last lines if that is an error."""
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
