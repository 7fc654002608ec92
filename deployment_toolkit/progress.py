"""Progress of a long wait: a bar on a terminal, occasional lines in a log file."""

from __future__ import annotations

import sys

from tqdm import tqdm

_LOG_INTERVAL_S = 10.0
_LARGE = 1000  # counts from here on are shown as 55.3k


def progress_bar(description: str, total: int | None, unit: str) -> tqdm:
    """A tqdm bar, to be used as a context manager, with the rate and, if ``total`` is known, the remaining time."""
    scale = total is None or total >= _LARGE
    if sys.stderr.isatty():
        return tqdm(total=total, desc=description, unit=unit, unit_scale=scale)
    return tqdm(
        total=total,
        desc=description,
        unit=unit.strip(),
        unit_scale=scale,
        file=_Lines(),
        mininterval=_LOG_INTERVAL_S,
        maxinterval=_LOG_INTERVAL_S,
        bar_format="{desc}: {n_fmt} of {total_fmt} {unit} [{elapsed} < {remaining}, {rate_fmt}]",
    )


class _Lines:
    """A stderr that writes each redrawn state of a bar as a line."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
