"""Options that training, export and inference of the network share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Mnemonic
from deployment_toolkit.errors import UsageError
from deployment_toolkit.options.params import option
from widedeep.features.outbrain import outbrain_spec
from widedeep.features.spec import FeatureSpec, load_feature_spec


class Combiner(Mnemonic):
    """Combination of a multi-hot feature's embeddings into one."""

    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True)
class NetworkOptions:
    """Options of the network's shape; a checkpoint fits only the shape it was trained with. A value of None is taken
    from the sources in ``network_description``."""

    deep_hidden_units: list[int] | None = option(
        "units of each hidden layer (default: from the checkpoint, else 5 x 1024)", None, type=int, nargs="+"
    )
    deep_dropout: float = option("dropout rate after each hidden layer, in training", 0.1)
    combiner: Combiner | None = option(
        "combination of a multi-hot feature's embeddings (default: from the checkpoint, else sum)", None
    )
    feature_spec: Path | None = option(
        "feature specification, YAML (default: from the checkpoint or the data set, else the Outbrain features)",
        None,
    )
    embedding_sizes: Path | None = option(
        "embedding widths, YAML or JSON, {feature: width} (default: from the checkpoint or the data set, else "
        "Outbrain's, and 64 for other features)",
        None,
    )

    def __post_init__(self) -> None:
        if self.deep_hidden_units is not None and min(self.deep_hidden_units) < 1:
            raise UsageError(f"--deep-hidden-units must be positive, not {min(self.deep_hidden_units)}")
        if not 0 <= self.deep_dropout < 1:
            raise UsageError(f"--deep-dropout must be at least 0 and below 1, not {self.deep_dropout}")


def read_feature_spec(path: Path | None) -> FeatureSpec:
    """Feature specification in a file, or Outbrain's without a file."""
    return outbrain_spec() if path is None else load_feature_spec(path)
