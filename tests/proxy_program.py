"""The program that the proxy's tests need."""

from __future__ import annotations

import pytest

from deployment_toolkit.errors import ServerError
from deployment_toolkit.proxy.running import find_haproxy


def _is_missing() -> bool:
    try:
        find_haproxy()
    except ServerError:
        return True
    return False


needs_haproxy = pytest.mark.skipif(_is_missing(), reason="HAProxy is not there: apt-get install haproxy")
