"""What differs between runs beside their figures: host, versions, configuration, settings of experiments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runner.compare.alignment import Together
from runner.kept_run import KeptRun

ABSENT = "-"
_SEPARATE = ("configurations",)  # the settings of experiments are compared where these belong together
_EMPTY: tuple[Any, ...] = (None, [], {}, "")


def differences(runs: Sequence[KeptRun], together: Sequence[Together]) -> list[tuple[str, list[str]]]:
    """Name and each run's value of everything that is not the same in all runs. What a run does not tell, as an older
    one or the published figures, is ``-``."""
    found = [*_differing("host", [_host(run) for run in runs])]
    found += _differing("package", [run.system.get("packages") or {} for run in runs])
    if all(run.config for run in runs):
        found += _differing("configuration", [_configuration(run) for run in runs])
    for item in together:
        found += [
            (f"{item.title}: {name}", [value or ABSENT for value in values]) for name, values in item.settings.items()
        ]
    return found


def _host(run: KeptRun) -> dict[str, Any]:
    return {name: value for name, value in run.system.items() if name != "packages"}


def _configuration(run: KeptRun) -> dict[str, Any]:
    return {name: value for name, value in run.config.items() if name not in _SEPARATE}


def _differing(kind: str, sides: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    flat = [dict(_flat(side)) for side in sides]
    for name in dict.fromkeys(name for side in flat for name in side):
        values = [side.get(name, ABSENT) for side in flat]
        if len(set(values)) > 1:
            yield f"{kind}: {name}", values


def _flat(value: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, item in value.items():
        if isinstance(item, Mapping) and item:
            yield from _flat(item, f"{above}{name}.")
        elif item not in _EMPTY:
            yield f"{above}{name}", "; ".join(map(str, item)) if isinstance(item, list) else str(item)
