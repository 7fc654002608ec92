"""NVTabular preprocessing of the raw Outbrain CSVs to the parquet files for training and deployment.

    scripts/preproc.sh --raw-dir datasets/raw --output-dir datasets/outbrain

makes ``train/*.parquet``, ``valid/*.parquet``, ``feature_spec.yaml``, ``embedding_sizes.json`` (of the network to be
trained) and ``workflow/`` (the fitted NVTabular workflow).
All rows of a display are in one split, next to each other and in the order of the clicks file; displays are ordered by
id. Statistics come from the training rows only.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.files.patterns import plain_name
from deployment_toolkit.files.scratch import entries
from deployment_toolkit.options.params import option
from widedeep.data.dataset_folder import SIZES_NAME, SPEC_NAME
from widedeep.features.options import read_feature_spec
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.source_spec import TEST, TRAIN
from widedeep.features.spec import FeatureSpec
from widedeep.model.embedding_sizes import embedding_sizes_to_json, load_embedding_sizes
from widedeep.preprocessing.nvtabular_import import import_nvtabular

if TYPE_CHECKING:
    from widedeep.preprocessing.documents import DocumentTags
    from widedeep.preprocessing.fitted.tables import Tables

LOGGER = logging.getLogger("preprocessing")

WORKFLOW_NAME = "workflow"
SPLITS = ("train", "valid")
_PARTITION_SIZE = "64MB"


@dataclass(frozen=True)
class PreprocessingOptions:
    """Options of ``scripts/preproc.sh``."""

    raw_dir: Path = option("folder with Outbrain's CSV files, unzipped or each in a zip")
    output_dir: Path = option("folder to make; must not exist, or be empty")
    feature_spec: Path | None = option(
        "feature specification (YAML) with other cardinalities, hotness or dtypes than the Outbrain ones", None
    )
    embedding_sizes: Path | None = option(
        "embedding widths to keep with the data, YAML or JSON, {feature: width} (default: the Outbrain ones)", None
    )
    force: bool = option("replace the output folder's content when the new data is complete", False)

    def __post_init__(self) -> None:
        output = self.output_dir
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output-dir {output} is a file: give a folder")
        if output.resolve() == self.raw_dir.resolve() or output.resolve() in self.raw_dir.resolve().parents:
            raise UsageError(f"--output-dir {output} holds the raw files: give another folder")
        if output.is_dir() and entries(output) and not self.force:
            raise UsageError(f"--output-dir {output} holds files: give another folder, or --force to replace them")


def preprocess(options: PreprocessingOptions) -> dict[str, int]:
    """Preprocesses the files; returns the rows written per split. The output folder appears, or is replaced, when
    everything is complete.

    Raises DataError if a raw file is missing or invalid; a missing document table only causes a warning.
    """
    from widedeep.preprocessing.raw_csv import check_files

    spec = _outbrain_like(options.feature_spec)
    widths = load_embedding_sizes(options.embedding_sizes, spec)
    check_files(options.raw_dir)
    with replace_when_complete(options.output_dir, replaces_all=options.force) as beside:
        beside.mkdir()
        with plain_name(beside) as folder:
            rows = _fill(options.raw_dir, folder, spec)
        files = {TRAIN: ("train/*.parquet",), TEST: ("valid/*.parquet",)}
        (beside / SPEC_NAME).write_text(dataclasses.replace(spec, files=files).to_yaml())
        (beside / SIZES_NAME).write_text(embedding_sizes_to_json(widths))
        return rows


def _fill(raw_dir: Path, output: Path, spec: FeatureSpec) -> dict[str, int]:
    from widedeep.preprocessing.documents import read_ads, read_documents_meta
    from widedeep.preprocessing.fitted.tables import Tables
    from widedeep.preprocessing.joined_clicks import join_clicks
    from widedeep.preprocessing.workflow_file import load_workflow, save_workflow

    work_dir = output / "joined"
    work_dir.mkdir()
    with _stage("documents"):
        tables = Tables()
        tags = _read_tags(raw_dir, spec, tables)
        ads, meta = read_ads(raw_dir), read_documents_meta(raw_dir)
    with _stage("join"):
        joined = join_clicks(raw_dir, work_dir, ads, meta, largest_display=_largest_display(spec))
    del ads, meta
    with _stage("load NVTabular"):
        make_workflow, dataset, write_features = _load_nvtabular()
    with _stage("fit"):
        from tqdm.dask import TqdmCallback

        workflow = make_workflow(tags, spec.cardinalities, tables)
        with TqdmCallback(desc="fit", unit=" task", delay=2.0, mininterval=1.0):
            workflow.fit(dataset(joined["train"]))
        save_workflow(workflow, output / WORKFLOW_NAME)
        del workflow, tags, tables  # from here on the tables are those of the files
        workflow = load_workflow(output / WORKFLOW_NAME)
    rows = {}
    for split in SPLITS:
        with _stage(f"transform {split}"):
            rows[split] = write_features(workflow, dataset(joined[split]), output / split, spec)
    shutil.rmtree(work_dir)
    return rows


def _outbrain_like(path: Path | None) -> FeatureSpec:
    """Feature specification in a file, after a check that it has the features of Outbrain's files."""
    spec = read_feature_spec(path)
    wanted, found = _names_by_channel(outbrain_spec()), _names_by_channel(spec)
    if found != wanted:
        different = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise UsageError(
            f"feature specification {path} differs from what is made of Outbrain's files in {', '.join(different)}: "
            "only cardinalities, hotness and dtypes can be chosen"
        )
    return spec


def _names_by_channel(spec: FeatureSpec) -> dict[str, str]:
    channels = {"numerical": spec.numerical, "onehot": spec.onehot, "multihot": spec.multihot, "label": (spec.label,)}
    channels["map"] = () if spec.group_id is None else (spec.group_id,)
    return {feature.name: channel for channel, features in channels.items() for feature in features}


def _largest_display(spec: FeatureSpec) -> int:
    assert spec.group_id is not None
    return int(np.iinfo(spec.group_id.dtype).max)


def _read_tags(raw_dir: Path, spec: FeatureSpec, tables: Tables) -> dict[str, DocumentTags]:
    from widedeep.preprocessing.documents import read_tags
    from widedeep.preprocessing.raw_csv import TAG_LISTS, TAGS

    lists = {feature.name: feature for feature in spec.multihot}
    tags = {}
    for kind, file_name in TAGS.items():
        feature = lists[TAG_LISTS[kind]]
        assert feature.cardinality is not None and feature.max_hotness is not None
        tags[kind] = read_tags(
            raw_dir, file_name, tables, kind, cardinality=feature.cardinality, hotness=feature.max_hotness
        )
    return tags


def _load_nvtabular() -> tuple[Callable[..., Any], Callable[..., Any], Callable[..., int]]:
    """Imports ``make_workflow``, a constructor of datasets and ``write_features``. The import of NVTabular takes
    seconds, and its datasets warn on a machine without a GPU."""
    warnings.filterwarnings("ignore", message="Initializing an NVTabular Dataset in CPU mode")
    nvtabular = import_nvtabular()

    from widedeep.features.files import write_features
    from widedeep.preprocessing.workflow import make_workflow

    def dataset(files: list[Path]) -> Any:
        return nvtabular.Dataset([str(file) for file in files], engine="parquet", part_size=_PARTITION_SIZE)

    return make_workflow, dataset, write_features


@contextmanager
def _stage(name: str) -> Iterator[None]:
    started = time.monotonic()
    LOGGER.info("%s …", name)
    yield
    LOGGER.info("%s done in %.1f s", name, time.monotonic() - started)
