"""CSV files of results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.files.texts import read_text

Record = TypeVar("Record")

_NUMBERS = {"int": int, "float": float}


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Writes one header, the keys of the first row, and the rows; None becomes an empty cell. The file is replaced
    atomically. Raises ValueError if a row has a key that the first row lacks."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Rows of a CSV file, in their order, as records of a dataclass whose fields are int, float or str; empty if there
    is no file. Raises DataError if it has other columns or a value that is no number where one is due."""
    if not path.is_file():
        return []
    types: dict[str, Any] = {field.name: _NUMBERS.get(str(field.type), str) for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return [kind(**{name: types[name](text) for name, text in row.items()}) for row in read_csv(path)]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} has other columns or values than this version writes: move it away") from error


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV with one header, as text by column. Raises DataError, with the line, if there is no such
    file, or a row has another number of cells than the header."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    found: list[dict[str, str]] = []
    try:
        for row in rows:
            if None in row or None in row.values():
                cells = len(row) + len(row.get(None, ())) - (None in row) - list(row.values()).count(None)
                wanted = len(rows.fieldnames or ())
                raise DataError(f"{path}:{rows.line_num}: {cells} cells under {wanted} titles: make the file again")
            found.append(row)
    except csv.Error as error:
        raise DataError(f"{path}:{rows.line_num + 1}: not CSV: {error}: make the file again") from error
    return found
