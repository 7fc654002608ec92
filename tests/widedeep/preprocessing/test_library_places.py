"""docs/preprocessing-libraries.md lists where NVTabular and merlin-core use pandas, dask and NumPy, and tests."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import run
from tests.library_places import COVERED_BY, IMPORTS, PAGE, covering_test

_PROGRAM = "from tests.library_places import page; print(page(), end='')"


def test_page_is_of_a_trace_with_the_libraries_that_are_installed(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}  # a new process: the import is traced, too
    done = run([sys.executable, "-c", _PROGRAM], env=env, log_path=tmp_path / "log")
    assert done.stdout == PAGE.read_text(), "make it again with python -m tests.library_places"


def test_named_tests_exist_and_a_place_without_a_test_is_an_error() -> None:
    for test in {*COVERED_BY.values(), IMPORTS}:
        file, _, function = test.partition("::")
        assert callable(getattr(importlib.import_module(file.removesuffix(".py").replace("/", ".")), function))
    with pytest.raises(StopIteration):
        covering_test("nvtabular.ops.categorify.Categorify.fit")
