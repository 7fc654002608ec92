from __future__ import annotations

from pathlib import Path

import pytest

from deployment_toolkit.core import Format
from tests.small_networks import summing


@pytest.fixture(scope="session")
def summing_savedmodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with two outputs, whose input ``wide`` has any width."""
    return summing().write(Format.TF_SAVEDMODEL, tmp_path_factory.mktemp("summing") / "model")
