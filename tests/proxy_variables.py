"""Variables of the environment that name a proxy."""

from __future__ import annotations

import pytest

DEAD_PROXY = "http://127.0.0.1:9"  # nothing listens there
_NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "no_grpc_proxy")


def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes all of them out of the environment."""
    for name in (*_NAMES, *(name.upper() for name in _NAMES)):
        monkeypatch.delenv(name, raising=False)


def dead_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets all of them that name a proxy, none that names an exception."""
    no_proxies(monkeypatch)
    for name in _NAMES:
        if not name.startswith("no_"):
            monkeypatch.setenv(name, DEAD_PROXY)
            monkeypatch.setenv(name.upper(), DEAD_PROXY)
