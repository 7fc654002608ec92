"""Wide & Deep, the network of a configuration that names no other."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.patterns import below
from runner.command import Command, module_command
from runner.config.run import RunConfig
from runner.networks.network import DeployedNetwork, PreparationStage, is_there, relative

_SPECIFICATION = "feature_spec.yaml"
_WIDTHS = ("embedding_sizes.json", "embedding_sizes.yaml")


@dataclass(frozen=True)
class WideDeepNetwork(DeployedNetwork):
    """The network of ``model.py``. The data set's folder may hold a feature specification and embedding widths, which
    go to every plug-in; a folder without them has the Outbrain features."""

    config: RunConfig

    @classmethod
    def of(cls, config: RunConfig) -> WideDeepNetwork:
        """The network of a run."""
        dataset = config.dataset_dir
        valid, train = (below(dataset / part, "*.parquet") for part in ("valid", "train"))
        return cls(ROOT / "model.py", ROOT / "dataloader.py", ROOT / "metrics.py", valid, train, config)

    def model_options(self) -> list[object]:
        """Hidden layers, if the configuration has others than the network's own."""
        units = self.config.deep_hidden_units
        return [] if units is None else ["--deep-hidden-units", *units]

    def dataloader_options(self) -> list[object]:
        """Specification and embedding widths in the data set's folder. Raises DataError for two files of widths."""
        found = [path for name in _WIDTHS if (path := self.config.dataset_dir / name).is_file()]
        if len(found) > 1:
            raise DataError(f"{found[0]} and {found[1].name} are both there: remove the one that isn't meant")
        return [*self.specification_options(), *(part for path in found for part in ("--embedding-sizes", path))]

    def specification_options(self) -> list[object]:
        """The feature specification in the data set's folder."""
        path = self.config.dataset_dir / _SPECIFICATION
        return ["--feature-spec", path] if path.is_file() else []

    @property
    def workflow(self) -> Path:
        """The fitted preprocessing of the data set."""
        return self.config.dataset_dir / "workflow"

    def raw_row_arguments(self, batch_size: int) -> list[object]:
        """Arguments with which a script reads the validation data before preprocessing."""
        pattern = below(self.config.raw_rows_dir / "valid", "*.parquet")
        options: list[object] = ["--dataloader", ROOT / "raw_dataloader.py", "--data-pattern", pattern]
        return [*options, "--batch-size", batch_size, *self.specification_options()]

    def data_stages(self) -> list[PreparationStage]:
        """Raw data, preprocessed data, and for an ensemble the rows before preprocessing."""
        config, dataset = self.config, self.config.dataset_dir
        raw = dataset.with_name(f"{dataset.name}_raw")
        valid = dataset / "valid"
        given = (("--feature-spec", config.feature_spec), ("--embedding-sizes", config.embedding_sizes))
        spec = [part for option, path in given if path is not None for part in (option, path)]
        demo = ("--displays", config.demo_data.displays, "--seed", config.demo_data.seed)
        stages = [
            PreparationStage(
                "demo data",
                valid if is_there(valid) else raw,
                lambda: module_command("demo_data", "widedeep.synthetic", "--output-dir", raw, *demo),
                f"no data: neither {relative(dataset)} nor {relative(raw)} is there, so demo data is generated. For "
                f"the Outbrain data unzip Kaggle's files into {relative(raw)}",
            ),
            PreparationStage(
                "preprocessing",
                valid,
                lambda: module_command(
                    "preprocessing", "widedeep.preprocessing", "--raw-dir", raw, "--output-dir", dataset, *spec
                ),
            ),
        ]
        if config.ensemble_model_name is not None:
            rows = config.raw_rows_dir
            options = ("--raw-dir", raw, "--output-dir", rows)
            stages.append(
                PreparationStage("raw rows", rows, lambda: module_command("raw_rows", "widedeep.raw_rows", *options))
            )
        return stages

    def training_stage(self, checkpoint: str, folder: Path) -> PreparationStage:
        """``widedeep.training``."""
        advice = (
            f"no checkpoint: {relative(folder)} is not there and the configuration has no url, so one is trained on "
            f"{relative(self.config.dataset_dir)} (as scripts/train.sh does). To use yours, copy it there or give its "
            "url"
        )
        return PreparationStage("training", folder, lambda: self._training(checkpoint, folder), advice)

    def _training(self, checkpoint: str, folder: Path) -> Command:
        dataset, training = self.config.dataset_dir, self.config.training
        if not (dataset / _SPECIFICATION).is_file() and not glob.glob(self.train_pattern):  # noqa: PTH207 - absolute
            raise DataError(
                f"checkpoint {checkpoint} is missing and there is no data to train one on ({self.train_pattern}): copy "
                f"one to {folder}, give its url in the configuration, or preprocess the raw data (scripts/preproc.sh)"
            )
        return module_command(
            f"training_{checkpoint}",
            "widedeep.training",
            *("--data-dir", dataset, "--checkpoint-dir", folder),
            *("--epochs", training.epochs, "--batch-size", training.batch_size),
            *(("--max-steps", training.max_steps) if training.max_steps is not None else ()),
            *self.dataloader_options(),
            *self.model_options(),
        )
