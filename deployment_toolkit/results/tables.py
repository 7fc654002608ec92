"""CSV files of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from deployment_toolkit.files.atomic import write_text


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes one header, the keys of the first row, and the rows; None becomes an empty cell. The file is replaced
    atomically. Raises ValueError if a row has a key that the first row lacks."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
