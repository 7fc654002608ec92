"""Reader of the record of a run, ``task.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deployment_toolkit.options.located_yaml import Located, load_yaml

TASK_FILE = "task.yaml"


def read_task(path: Path) -> dict[str, Any]:
    """Content of a run's ``task.yaml``. Raises DataError, with the line, if it can't be read or lacks a part."""
    found = load_yaml(path)
    record = found.entries("the record of a run")
    for key in ("command", "started", "system", "stages", "config"):
        if key not in record:
            raise found.error(f"the record of a run lacks {key}: give the folder of a run")
    for stage in record["stages"].items("stages"):
        _require_keys(stage, "a stage", ("name", "experiment", "state"))
        for key in ("name", "state"):
            stage.value[key].text(f"{key} of a stage")
        if stage.value["experiment"].value is not None:
            stage.value["experiment"].count("experiment of a stage")
    record["system"].entries("system")
    _require_keys(record["config"], "the configuration", ("configurations",))
    for item in record["config"].value["configurations"].items("configurations"):
        _require_keys(item, "a configuration", ("parameters",))
        _require_keys(item.value["parameters"], "parameters", ("format", "precision"))
        for key in ("format", "precision"):
            item.value["parameters"].value[key].text(key)
    plain: dict[str, Any] = found.plain
    return plain


def _require_keys(found: Located, what: str, keys: tuple[str, ...]) -> None:
    missing = [key for key in keys if key not in found.entries(what)]
    if missing:
        raise found.error(f"{what} in the record of a run lacks {missing[0]}")
