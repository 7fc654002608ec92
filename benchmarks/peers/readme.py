"""Insertion of the comparison into a page."""

from __future__ import annotations

import re
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text

START, END = "<!-- peers: start -->", "<!-- peers: end -->"


def put_between_markers(page: Path, text: str) -> None:
    """Replaces the text between the two markers of a page. Raises DataError if it does not have one pair of markers."""
    before = page.read_text() if page.is_file() else ""
    pattern = re.compile(f"{re.escape(START)}.*{re.escape(END)}", re.DOTALL)
    if before.count(START) != 1 or before.count(END) != 1 or not pattern.search(before):
        raise DataError(f"{page} has no place for the comparison: add the lines {START} and {END}")
    write_text(page, pattern.sub(lambda _: f"{START}\n\n{text.strip()}\n\n{END}", before))
