"""A model in the format that its host takes: made once of the one that was given, and kept in the workspace."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from deployment_toolkit.core import Precision
from deployment_toolkit.files import fingerprint
from navigator.attempts import Step
from navigator.conversions import Conversions, Made
from navigator.deployments import Choice
from navigator.reuse import Ledger

MADE = "hosted"  # folder in the workspace


@dataclass(frozen=True)
class Sources:
    """The model ``given``, and what is made of it in ``workspace``."""

    given: Path
    workspace: Path

    def model_for(self, choice: Choice) -> Path:
        """The path of the model that a deployment serves. Raises what the converter raises."""
        source, wanted = choice.source_format, choice.deployment.format
        if source is wanted:
            return self.given
        folder = self.workspace / MADE
        folder.mkdir(parents=True, exist_ok=True)
        made = Made(self.given, source, fingerprint.of_path(self.given), reused=True)
        step = Step(str(wanted), source, wanted, {"precision": Precision.FP32})
        return Conversions(made, folder, Ledger(folder / "state.yaml"), {}, []).make([step]).path
