"""The run that a run is compared with at its end."""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployment_toolkit.errors import UsageError


@dataclass(frozen=True)
class Baseline:
    """A run by its folder, its name in the workspace or a kept report's name, and by how much, beyond noise, a figure
    may be worse than there: a percentage of the baseline's."""

    run: str
    max_regression: str = "5%"

    def __post_init__(self) -> None:
        _ = self.limit

    @property
    def limit(self) -> float:
        """``max_regression`` as a share."""
        return parse_share(self.max_regression)


def parse_share(text: str) -> float:
    """The share that ``5%`` or ``5`` means. Raises UsageError if it is not from 0 to below 100."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*%?\s*", text)
    if found is None or not float(found[1]) < 100:
        raise UsageError(f"{text!r} is no percentage from 0% to below 100%: write for example 5%")
    return float(found[1]) / 100
