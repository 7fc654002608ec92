"""The key ``quick`` of a run: what ``--quick`` runs, and how short it makes the training of a missing checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

from deployment_toolkit.errors import UsageError, require_at_least


@dataclass(frozen=True)
class Quick:
    """Wide & Deep's checkpoint is trained for ``training_steps`` at most. ``experiments`` are those that run, by their
    numbers; None: TensorFlow in fp32 and the format that promises most."""

    experiments: list[int] | None = None
    training_steps: int = 30

    def __post_init__(self) -> None:
        require_at_least("training_steps", self.training_steps, 1)
        if self.experiments == []:
            raise UsageError("experiments must hold at least one number: leave it out for the quick look's own choice")
