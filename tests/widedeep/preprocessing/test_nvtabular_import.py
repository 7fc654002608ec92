"""Import of NVTabular in a fresh process: quiet, quick, and without a framework that is not needed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.process import run

_PROGRAM = """
import sys
from widedeep.preprocessing.nvtabular_import import import_nvtabular
nvtabular = import_nvtabular()
import widedeep.features.files, widedeep.preprocessing.workflow
assert nvtabular.Workflow and import_nvtabular() is nvtabular
print(sorted({"tensorflow", "torch", "keras", "pynvml", "dask_cuda", "dask_expr"} & set(sys.modules)))
import dask.dataframe
print(dask.dataframe.core.DataFrame is dask.dataframe.DataFrame)  # the older data frames
import importlib.util
print("tensorflow" in sys.modules, importlib.util.find_spec("tensorflow") is not None)  # can be imported afterwards
"""


def test_nvtabular_comes_without_warnings_frameworks_or_newer_data_frames(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = run([sys.executable, "-W", "always", "-c", _PROGRAM], env=env, log_path=tmp_path / "log")
    assert done.stdout.split("\n")[:3] == ["[]", "True", "False True"]
    assert not done.stderr
