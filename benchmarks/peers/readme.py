"""Insertion of tables into a page."""

from __future__ import annotations

import re
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text

PEERS = "peers"
START, END = f"<!-- {PEERS}: start -->", f"<!-- {PEERS}: end -->"


def put_between_markers(page: Path, text: str, name: str = PEERS) -> None:
    """Replaces the text between the two markers of this name in a page. Raises DataError if it does not have one pair
    of them."""
    start, end = f"<!-- {name}: start -->", f"<!-- {name}: end -->"
    before = page.read_text() if page.is_file() else ""
    pattern = re.compile(f"{re.escape(start)}.*{re.escape(end)}", re.DOTALL)
    if before.count(start) != 1 or before.count(end) != 1 or not pattern.search(before):
        raise DataError(f"{page} has no place for the comparison: add the lines {start} and {end}")
    write_text(page, pattern.sub(lambda _: f"{start}\n\n{text.strip()}\n\n{end}", before))
