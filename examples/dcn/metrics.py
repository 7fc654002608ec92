"""Plug-in for ``--metrics``: RMSE of the ratings, and NDCG@10 of each user's movies."""

from __future__ import annotations

import numpy as np

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError, UsageError

_RANKS = 10


class MetricsCalculator:
    """Collects predictions batch by batch."""

    lower_is_better = ("rmse",)

    def __init__(self, *, output_used_for_metrics: str = "rating") -> None:
        self._output = output_used_for_metrics
        self._ids: list[Array] = []
        self._predicted: list[Array] = []
        self._ratings: list[Array] = []

    def update(self, ids: Array, y_pred: Arrays, x: Arrays | None, y_real: Arrays) -> None:
        """Adds rows: ``ids`` [B], predicted and real ratings [B, 1]. Raises UsageError for an output that is not there,
        DataError if there are no labels."""
        if self._output not in y_pred:
            raise UsageError(f"--output-used-for-metrics {self._output}: there are only {sorted(y_pred)}")
        if self._output not in y_real:
            raise DataError(f"metrics need the label {self._output}: make the dump with --dump-labels")
        self._ids.append(ids.reshape(-1))
        self._predicted.append(y_pred[self._output].reshape(-1).astype(np.float64))
        self._ratings.append(y_real[self._output].reshape(-1).astype(np.float64))

    @property
    def metrics(self) -> dict[str, float]:
        """``rmse`` and ``ndcg10`` of all rows so far; NaN without rows."""
        if not self._ids:
            return {"rmse": float("nan"), "ndcg10": float("nan")}
        ids, predicted, ratings = map(np.concatenate, (self._ids, self._predicted, self._ratings))
        return {
            "rmse": float(np.sqrt(np.mean((predicted - ratings) ** 2))),
            "ndcg10": ndcg(ids, predicted, ratings),
        }


def ndcg(ids: Array, predicted: Array, ratings: Array, ranks: int = _RANKS) -> float:
    """NDCG@``ranks``: the mean over users (``ids``) of DCG in the predicted order over DCG in the best order, with gain
    2^rating - 1 and discount log2(rank + 1) (Burges et al., ICML 2005). Rows need not be ordered."""
    gains = 2**ratings - 1
    got, best = (_dcg(ids, gains, np.lexsort((-key, ids)), ranks) for key in (predicted, gains))
    return float(np.mean(got / best))


def _dcg(ids: Array, gains: Array, order: Array, ranks: int) -> Array:
    """DCG of each user, with the rows of a user in this order."""
    _, first, counts = np.unique(ids[order], return_index=True, return_counts=True)
    rank = np.arange(len(ids)) - np.repeat(first, counts) + 1
    return np.add.reduceat(np.where(rank <= ranks, gains[order] / np.log2(rank + 1), 0), first)
