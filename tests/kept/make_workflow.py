"""Makes ``workflow_with_arrays.tar.xz``: a workflow with all arrays in its pickle, rows for it and their features.

Made at commit 15813c4, the last whose workflows are such, so that later versions are seen to read them:

    PYTHONPATH=. .venv/bin/python tests/kept/make_workflow.py tests/kept/workflow_with_arrays.tar.xz
"""

from __future__ import annotations

import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.preprocessing.raw_csv import CLICKS, EVENTS, META, PROMOTED, TAGS
from widedeep.raw_rows import RawRowsOptions, join_raw_rows
from widedeep.synthetic import SyntheticOptions, generate


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        raw = folder / "raw"
        generate(SyntheticOptions(raw, 60, seed=3))
        clicks, events, ads = (_read(raw / name) for name in (CLICKS, EVENTS, PROMOTED))
        ads = ads[ads.ad_id.isin(clicks.ad_id)]
        ads.to_csv(raw / PROMOTED, index=False)
        for name in (META, *TAGS.values()):
            table = _read(raw / name)
            table[table.document_id.isin([*events.document_id, *ads.document_id])].to_csv(raw / name, index=False)
        preprocess(PreprocessingOptions(raw, folder / "data"))
        join_raw_rows(RawRowsOptions(raw, folder / "joined"))
        with tarfile.open(target, "w:xz") as archive:
            for name in ("data/workflow", "data/feature_spec.yaml", "data/valid", "joined/valid"):
                archive.add(folder / name, name)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=str, keep_default_na=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
