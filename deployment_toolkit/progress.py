"""Progress of a long wait, and what a program of many steps does now: a bar or a text on a terminal, lines in a log
file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from tqdm import tqdm

_LOG_INTERVAL_S = 10.0
_REFRESH_S = 1.0
_LARGE = 1000  # counts from here on are shown as 55.3k


def progress_bar(description: str, total: int | None, unit: str, *, delay_s: float = 0.0) -> tqdm:
    """A tqdm bar, to be used as a context manager, with the rate and, if ``total`` is known, the remaining time. It is
    not shown before ``delay_s``."""
    scale = total is None or total >= _LARGE
    if sys.stderr.isatty():
        return tqdm(total=total, desc=description, unit=unit, unit_scale=scale, delay=delay_s)
    return tqdm(
        total=total,
        desc=description,
        unit=unit.strip(),
        unit_scale=scale,
        delay=delay_s,
        file=_Lines(),
        mininterval=_LOG_INTERVAL_S,
        maxinterval=_LOG_INTERVAL_S,
        bar_format="{desc}: {n_fmt} of {total_fmt} {unit} [{elapsed} < {remaining}, {rate_fmt}]",
    )


class Status:
    """What is done now: a text that is replaced on a terminal, or a line for each text in a log file."""

    def __init__(self, bar: tqdm | None) -> None:
        self._bar = bar
        self._shown = 0.0

    def tell(self, text: str) -> None:
        """Shows what is done now, in place of what was done before."""
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._shown = time.monotonic()
            self._bar.set_postfix_str(text)

    def refresh(self) -> None:
        """Shows on a terminal that time goes on."""
        if self._bar is not None and time.monotonic() - self._shown >= _REFRESH_S:
            self._shown = time.monotonic()
            self._bar.refresh()


@contextlib.contextmanager
def status(description: str) -> Iterator[Status]:
    """Status line of a program, after ``description`` on a terminal."""
    if not sys.stderr.isatty():
        yield Status(None)
        return
    with tqdm(total=None, desc=description, bar_format="{desc} {elapsed}{postfix}", dynamic_ncols=True) as bar:
        yield Status(bar)


class _Lines:
    """A stderr that writes each redrawn state of a bar as a line."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        line = text.strip()
        if line:
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()
