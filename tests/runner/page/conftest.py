from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import Browser, open_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for the tests of one file; those are marked ``needs_browser``."""
    with open_browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
