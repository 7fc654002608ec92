"""Folder of preprocessed data with its description: ``feature_spec.yaml``, the embedding widths and the files.

``<folder>/feature_spec.yaml`` and ``<folder>/embedding_sizes.json`` (or ``.yaml``) are used if the command line names
no others; a folder without them has the Outbrain features.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import below, folder_of
from widedeep.features.options import read_feature_spec
from widedeep.features.source_spec import TEST, TRAIN
from widedeep.features.spec import FeatureSpec, load_feature_spec

logger = logging.getLogger("data")

SPEC_NAME = "feature_spec.yaml"
SIZES_NAME = "embedding_sizes.json"
_SIZES_NAMES = (SIZES_NAME, "embedding_sizes.yaml")
_USUAL_FILES = {TRAIN: "train/*.parquet", TEST: "valid/*.parquet"}


@dataclass(frozen=True)
class DatasetFolder:
    """Folder of a data set."""

    path: Path

    @classmethod
    def of_pattern(cls, pattern: str) -> DatasetFolder:
        """Data set of a pattern's files: the folder of the files or the folder above, the first with a specification;
        ``<dataset>/valid/*.parquet`` belongs to ``<dataset>``."""
        return cls._near(folder_of(pattern))

    @classmethod
    def of_file(cls, path: Path) -> DatasetFolder:
        """Data set of one file, whose path may have any characters."""
        return cls._near(path.parent)

    @classmethod
    def _near(cls, files: Path) -> DatasetFolder:
        above = files.parent if files.name else files.resolve().parent
        return next((cls(folder) for folder in (files, above) if cls(folder).spec_path is not None), cls(files))

    @property
    def spec_path(self) -> Path | None:
        """Path of the folder's feature specification."""
        path = self.path / SPEC_NAME
        return path if path.is_file() else None

    @property
    def sizes_path(self) -> Path | None:
        """Path of the folder's embedding widths. Raises DataError if there are two such files."""
        found = [self.path / name for name in _SIZES_NAMES if (self.path / name).is_file()]
        if len(found) > 1:
            raise DataError(f"{found[0]} and {found[1].name} are both there: remove the one that isn't meant")
        return found[0] if found else None

    def spec(self, given: Path | None) -> FeatureSpec:
        """Feature specification from the command line, else from the folder, else Outbrain's; the source is logged."""
        path = given or self.spec_path
        logger.info("feature specification: %s", path or "Outbrain's")
        return read_feature_spec(path)

    def patterns(self, mapping: str) -> list[str]:
        """Patterns of the files for ``train`` or ``test``: from the folder's specification (paths are relative to the
        folder), else ``train/*.parquet`` or ``valid/*.parquet``."""
        own = {} if self.spec_path is None else load_feature_spec(self.spec_path).files
        files = own.get(mapping) or (own.get("valid") if mapping == TEST else None) or (_USUAL_FILES[mapping],)
        return [name if Path(name).is_absolute() else below(self.path, name) for name in files]
