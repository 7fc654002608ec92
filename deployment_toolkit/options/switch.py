"""Option of a plug-in that is on or off."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

_YES = {"yes", "true", "t", "y", "1"}
_NO = {"no", "false", "f", "n", "0"}


class Switch(argparse.BooleanOptionalAction):
    """``--shuffle`` and ``--no-shuffle``, as this project has options, and ``--shuffle 1`` and ``--shuffle no``, as
    the original has them."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.nargs = "?"

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        negative = option_string is not None and option_string.startswith("--no-")
        if isinstance(values, str) and (negative or values.lower() not in _YES | _NO):
            raise argparse.ArgumentError(self, f"{values!r} is neither yes nor no, 1 nor 0")
        setattr(namespace, self.dest, values.lower() in _YES if isinstance(values, str) else not negative)
