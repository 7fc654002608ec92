from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deployment_toolkit.errors import DataError
from runner.report.task import read_task

WHOLE: dict[str, Any] = {
    "command": "python -m runner",
    "started": "2026-11-30T01:00:00+00:00",
    "system": {},
    "stages": [{"name": "export", "experiment": 1, "state": "ok"}],
    "config": {"configurations": [{"parameters": {"format": "onnx", "precision": "fp32"}}]},
}


def test_record_of_a_run_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(WHOLE))
    assert read_task(tmp_path / "task.yaml") == WHOLE


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"stages": None}, "the record of a run lacks stages: give the folder of a run"),
        ({"stages": [{"name": "export", "experiment": 1}]}, "a stage in the record of a run lacks state"),
        ({"config": {}}, "the configuration in the record of a run lacks configurations"),
        ({"config": {"configurations": [{}]}}, "a configuration in the record of a run lacks parameters"),
    ],
)
def test_what_a_record_lacks_is_told_with_its_line(damage: dict[str, Any], message: str, tmp_path: Path) -> None:
    plain = {key: value for key, value in (WHOLE | damage).items() if value is not None}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    with pytest.raises(DataError, match=rf"task\.yaml:\d+: {message}"):
        read_task(tmp_path / "task.yaml")
