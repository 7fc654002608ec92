"""Questions to programs on loopback, past any proxy."""

from __future__ import annotations

import contextlib
import http.client


def get(address: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of a GET. Raises OSError or HTTPException if there is no answer."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=timeout_s)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
