from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """``convert`` into ``out.onnx`` of the test's folder; the model and more options follow."""
    workspace = tmp_path / "workspace"
    return ["convert", "-n", "tiny", "-o", str(tmp_path / "out.onnx"), "--workspace-path", str(workspace)]


@pytest.fixture
def real_rows(tiny_rows: list[str], tiny_folder: Path) -> list[str]:
    """Options that name a dataset of ``tiny_savedmodel``'s network."""
    return [*tiny_rows, "--feature-spec", str(tiny_folder / "feature_spec.yaml")]


@pytest.fixture
def results(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Reads what the last ``convert`` recorded."""

    def read() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = yaml.safe_load(
            (tmp_path / "workspace" / "convert_model_results.yaml").read_text()
        )
        return found

    return read
