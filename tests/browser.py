"""A headless Chromium that the tests drive through its DevTools protocol, over a pipe: no port, no further package."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_PROGRAM = next(filter(None, map(shutil.which, PROGRAMS)), None)
needs_browser = pytest.mark.skipif(
    _PROGRAM is None, reason="no Chromium: scripts/install_browser.sh, called by root, installs it for the tests"
)
_DEADLINE_S = 180.0
_OPTIONS = (
    "--headless", "--no-sandbox", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
# The pipes' ends become the descriptors 3 and 4, where Chromium looks for them.
_START = 'exec "$@" 3<&"$0" 4>&"$ANSWERS_END"'


@dataclass
class Browser:
    """A browser with one tab. ``complaints`` are errors and warnings of the console, of scripts and of the page's
    policy, ``requests`` the URLs that were asked for, ``refused`` why some of them were not sent, since the page was
    opened."""

    commands: int
    answers: int
    session: str = ""
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    _last: int = 0
    _unread: bytes = b""
    _loaded: bool = False

    def open(
        self,
        page: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        media: str = "",
        phone: bool = False,
    ) -> None:
        """Opens a file and waits until it and its scripts are through."""
        self.complaints.clear()
        self.requests.clear()
        self.refused.clear()
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self._loaded = False
        self.call("Page.navigate", url=page.resolve().as_uri())
        self._read(lambda: self._loaded)

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page, as JSON. Fails the test if it throws."""
        told = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Writes a picture of the page, or of what fits into the window."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        told = self.call("Page.captureScreenshot", captureBeyondViewport=whole, **({"clip": clip} if whole else {}))
        path.write_bytes(base64.b64decode(told["data"]))

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Result of a command of the protocol."""
        self._last += 1
        number = self._last
        session = {"sessionId": self.session} if self.session else {}
        message = {"id": number, "method": method, "params": parameters, **session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        answers: list[dict[str, Any]] = []

        def answered() -> bool:
            answers.extend(told for told in self._answered if told["id"] == number)
            return bool(answers)

        self._read(answered)
        assert "error" not in answers[0], f"{method}: {answers[0]['error']}"
        result: dict[str, Any] = answers[0]["result"]
        return result

    def _read(self, done: Any) -> None:
        self._answered: list[dict[str, Any]] = []
        deadline = time.monotonic() + _DEADLINE_S
        while not done():
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.answers], [], [], left)[0], "the browser does not answer"
            content = os.read(self.answers, 2**20)
            assert content, "the browser has ended"
            *messages, self._unread = (self._unread + content).split(b"\0")
            for message in map(json.loads, messages):
                if "id" in message:
                    self._answered.append(message)
                else:
                    self._note(message["method"], message["params"])

    def _note(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif event == "Network.loadingFailed":
            self.refused.append(told.get("blockedReason") or told["errorText"])
        elif event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"]))
        elif event == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.complaints.append(told["entry"]["text"])


@contextlib.contextmanager
def open_browser(home: Path) -> Iterator[Browser]:
    """Context with a browser whose profile is in ``home``."""
    assert _PROGRAM is not None
    commands_end, commands = os.pipe()
    answers, answers_end = os.pipe()
    argv = ["bash", "-c", _START, str(commands_end), _PROGRAM, *_OPTIONS, f"--user-data-dir={home / 'profile'}"]
    environment = {**os.environ, "HOME": str(home), "ANSWERS_END": str(answers_end)}
    with (home / "log").open("wb") as log, subprocess.Popen(
        [*argv, "about:blank"], pass_fds=(commands_end, answers_end), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        env=environment,
    ) as process:  # fmt: skip
        os.close(commands_end)
        os.close(answers_end)
        browser = Browser(commands, answers)
        try:
            target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                browser.call(f"{domain}.enable")
            yield browser
            browser.session = ""
            browser.call("Browser.close")
        finally:
            os.close(commands)
            os.close(answers)
            try:
                process.wait(_DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
