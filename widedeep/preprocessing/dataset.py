"""NVTabular preprocessing of the raw Outbrain CSVs to the parquet files for training and deployment.

    scripts/preproc.sh --raw-dir datasets/raw --output-dir datasets/outbrain

makes ``train/*.parquet``, ``valid/*.parquet``, ``feature_spec.yaml``, ``embedding_sizes.json`` (of the network to be
trained) and ``workflow/`` (the fitted NVTabular workflow).
All rows of a display are in one split, next to each other and in the order of the clicks file; displays are ordered by
id. Statistics come from the training rows only.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import replace_when_complete
from deployment_toolkit.files.place import find_place
from deployment_toolkit.files.scratch import entries, unfinished_name
from deployment_toolkit.options.params import option
from deployment_toolkit.tasks.running import Cluster, ThisProcess
from widedeep.data.dataset_folder import SIZES_NAME, SPEC_NAME
from widedeep.features.options import read_feature_spec
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.source_spec import TEST, TRAIN
from widedeep.features.spec import FeatureSpec
from widedeep.model.embedding_sizes import embedding_sizes_to_json, load_embedding_sizes
from widedeep.preprocessing.raw_files import RawFolder
from widedeep.preprocessing.tasks.layout import Layout

if TYPE_CHECKING:
    from widedeep.preprocessing.tasks.work_folder import Work

WORKFLOW_NAME = "workflow"
_OUTPUT = "output"
_TABLES = ("clicks_train", "events", "promoted_content", "documents_meta")
_TAG_TABLES = ("documents_categories", "documents_topics", "documents_entities")


@dataclass(frozen=True)
class PreprocessingOptions:
    """Options of ``scripts/preproc.sh``."""

    raw_dir: Path = option("folder with Outbrain's tables: CSV, also packed, or parquet; one file or many for each")
    output_dir: Path = option("folder to make; must not exist, or be empty")
    feature_spec: Path | None = option(
        "feature specification (YAML) with other cardinalities, hotness or dtypes than the Outbrain ones", None
    )
    embedding_sizes: Path | None = option(
        "embedding widths to keep with the data, YAML or JSON, {feature: width} (default: the Outbrain ones)", None
    )
    tables: list[str] = option(
        "tables that are elsewhere, as 'clicks_train=/data/clicks/*.parquet': name, and pattern of the files",
        [],
        nargs="+",
        adds_up=True,
    )
    force: bool = option("replace the output folder's content when the new data is complete", False)

    def __post_init__(self) -> None:
        output = self.output_dir
        _ = self.raw_folder
        if output.exists() and not output.is_dir():
            raise UsageError(f"--output-dir {output} is a file: give a folder")
        if output.resolve() == self.raw_dir.resolve() or output.resolve() in self.raw_dir.resolve().parents:
            raise UsageError(f"--output-dir {output} holds the raw files: give another folder")
        if output.is_dir() and entries(output) and not self.force:
            raise UsageError(f"--output-dir {output} holds files: give another folder, or --force to replace them")

    @property
    def raw_folder(self) -> RawFolder:
        """The raw folder with the patterns of ``tables``. Raises UsageError for a table that there isn't."""
        patterns: dict[str, str] = {}
        names = (*_TABLES, *_TAG_TABLES)
        for table in self.tables:
            name, _, pattern = table.partition("=")
            name = name.removesuffix(".csv")
            if name not in names or not pattern:
                raise UsageError(f"--tables {table}: give NAME=PATTERN; the names are {', '.join(names)}")
            if f"{name}.csv" in patterns:
                raise UsageError(f"--tables {table}: {name} is there twice, give one pattern for all of its files")
            patterns[f"{name}.csv"] = pattern
        return RawFolder(self.raw_dir, patterns)


def preprocess(
    options: PreprocessingOptions, cluster: Cluster | None = None, layout: Layout | None = None
) -> dict[str, int]:
    """Preprocesses the files on a cluster, by default in this process; returns the rows written per split. The output
    folder appears, or is replaced, when everything is complete. What a killed process has begun goes on.

    Raises DataError if a raw file is missing or invalid; a missing document table only causes a warning.
    """
    from widedeep.preprocessing.raw_csv import check_files
    from widedeep.preprocessing.tasks.plan import made_from
    from widedeep.preprocessing.tasks.work_folder import work_folder

    spec = _outbrain_like(options.feature_spec)
    widths = load_embedding_sizes(options.embedding_sizes, spec)
    raw_dir = options.raw_folder
    check_files(raw_dir)
    layout = layout or Layout()
    place = find_place(options.output_dir, replaces_all=options.force)
    unfinished = place.scratch_folder / unfinished_name(place.path.name)
    with work_folder(unfinished, made_from(raw_dir, spec, layout), layout, cluster or ThisProcess(1)) as work:
        output = work.data / _OUTPUT
        rows = _fill(raw_dir, work, output, spec)
        files = {TRAIN: ("train/*.parquet",), TEST: ("valid/*.parquet",)}
        (output / SPEC_NAME).write_text(dataclasses.replace(spec, files=files).to_yaml())
        (output / SIZES_NAME).write_text(embedding_sizes_to_json(widths))
        with replace_when_complete(options.output_dir, replaces_all=options.force) as beside:
            output.rename(beside)
    return rows


def _fill(raw_dir: RawFolder, work: Work, output: Path, spec: FeatureSpec) -> dict[str, int]:
    from widedeep.preprocessing.joined_clicks import join_clicks
    from widedeep.preprocessing.tasks.features import write_features
    from widedeep.preprocessing.tasks.fitting import fit_workflow
    from widedeep.preprocessing.tasks.statistics import count_rows

    joined = join_clicks(raw_dir, work.data, work, largest_display=_largest_display(spec))
    counts = count_rows(work.data, [file.path for file in joined["train"]], work)
    output.mkdir(exist_ok=True)
    workflow = output / WORKFLOW_NAME
    fit = (raw_dir, work.data / joined["train"][0].path, counts, spec, workflow)
    work.run("fit", fit_workflow, {WORKFLOW_NAME: fit}, made={WORKFLOW_NAME: workflow})
    return write_features(output, work.data, joined, workflow, spec, work)


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
