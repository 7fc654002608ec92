"""Small text files as text and JSON: whatever is in them, an error is one line with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from deployment_toolkit.errors import DataError

_MOST_BYTES = 2**22


def read_text(path: Path, most_bytes: int = _MOST_BYTES) -> str:
    """Text of a file in UTF-8, of at most ``most_bytes``. Raises DataError if there is none, if it is larger, or with
    the line if it is no UTF-8."""
    try:
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:  # a name with a NUL character
        raise DataError(f"{path} can't be read: {getattr(error, 'strerror', None) or error}") from error
    if len(content) > most_bytes:
        raise DataError(f"{path} is larger than {most_bytes >> 20} MiB: is it the right file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + content.count(b"\n", 0, error.start)
        raise DataError(
            f"{path}:{line}: this is no UTF-8, its byte 0x{content[error.start]:02x} is none: save the file as UTF-8"
        ) from error


def read_json(path: Path) -> Any:
    """Value of a JSON file. Raises DataError, with the line, if it can't be read or is no JSON."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of levels
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{path}: not JSON: {problem}") from error
