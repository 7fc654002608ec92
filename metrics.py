"""Plug-in for ``--metrics``: MAP@12 by display, ROC AUC and log loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError, UsageError

_RANKS = 12
_CLIP = 1e-7  # Keras's epsilon: keeps the log loss of a probability of exactly 0 or 1 finite

Floats = npt.NDArray[np.float64]
Clicks = npt.NDArray[np.bool_]


class MetricsCalculator:
    """Collects predictions batch by batch; keeps 13 bytes a row (32-bit ids)."""

    lower_is_better = ("log_loss",)

    def __init__(self, *, output_used_for_metrics: str = "wide_deep_model") -> None:
        self._output = output_used_for_metrics
        self._ids: list[Array] = []
        self._scores: list[Array] = []
        self._clicks: list[Clicks] = []

    def update(self, ids: Array, y_pred: Arrays, x: Arrays | None, y_real: Arrays) -> None:
        """Adds rows: ``ids`` [B] or [B, 1] group them; the output's probabilities and the labels (0 or 1) are [B, 1] or
        [B]. The label is the one named like the output, or the only one.

        Raises UsageError for an output that isn't there, DataError for labels that aren't or unequal numbers of rows.
        """
        if self._output not in y_pred:
            raise UsageError(
                f"--output-used-for-metrics {self._output}: there is no such output, there are {sorted(y_pred)}"
            )
        if not y_real:
            raise DataError("metrics need labels: make the dump with --dump-labels")
        if self._output not in y_real and len(y_real) > 1:
            raise DataError(f"which of the labels {sorted(y_real)} belongs to output {self._output}? name it like that")
        labels = y_real[self._output] if self._output in y_real else next(iter(y_real.values()))
        scores = y_pred[self._output]
        if not ids.size == scores.size == labels.size:
            raise DataError(
                f"a batch has {ids.size} ids, {scores.size} values of {self._output} and {labels.size} labels: "
                "metrics need one of each a row"
            )
        self._ids.append(ids.reshape(-1).copy())
        self._scores.append(scores.reshape(-1).copy())
        self._clicks.append(labels.reshape(-1) > 0)

    @property
    def metrics(self) -> dict[str, float]:
        """``map12``, ``roc_auc`` and ``log_loss`` of all rows so far. A metric that isn't defined is NaN: all of them
        without rows or with a prediction that is NaN, ``map12`` without clicks or where every row is a group of its own
        (as where data has no group ids: nothing is ranked), ``roc_auc`` with labels of one kind."""
        undefined = dict.fromkeys(("map12", "roc_auc", "log_loss"), float("nan"))
        if not self._ids:
            return undefined
        ids, scores, clicks = (np.concatenate(parts) for parts in (self._ids, self._scores, self._clicks))
        if ids.size == 0 or np.isnan(scores).any():
            return undefined
        return {
            "map12": mean_average_precision(ids, scores, clicks) if len(np.unique(ids)) < len(ids) else float("nan"),
            "roc_auc": roc_auc(scores, clicks),
            "log_loss": log_loss(scores, clicks),
        }


def mean_average_precision(ids: Array, scores: Array, clicks: Clicks, ranks: int = _RANKS) -> float:
    """MAP@``ranks`` over the groups of rows with equal ``ids``, wherever the rows are and however many a group has.

    AP@n = sum over the ranks k <= n that hold a click of precision(k), divided by min(clicks, n), as the Outbrain
    competition defines it (https://www.kaggle.com/wiki/MeanAveragePrecision). Like the original's metric, the mean is
    over groups with a click; the others have no AP. Equal scores have no order of their own: their AP is the mean over
    every order (McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence
    of Tied Scores, ECIR 2008), so that row order earns nothing.
    """
    order = np.argsort(-scores, kind="stable")
    order = order[np.argsort(ids[order], kind="stable")]
    ids, scores, clicked = ids[order], scores[order], clicks[order].astype(np.int64)
    group_first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1]))
    tie_first = np.flatnonzero(np.append(True, (ids[1:] != ids[:-1]) | (scores[1:] != scores[:-1])))
    group_clicks = np.add.reduceat(clicked, group_first)
    # Of each tie: its rows, its clicks, and the rows and clicks of its group that come before it.
    tie_rows = np.diff(np.append(tie_first, len(ids)))
    tie_clicks = np.add.reduceat(clicked, tie_first)
    tie_group = np.searchsorted(group_first, tie_first, side="right") - 1
    clicks_before = np.cumsum(clicked)[tie_first] - clicked[tie_first]
    tie_clicks_before = clicks_before - clicks_before[np.searchsorted(tie_first, group_first)][tie_group]
    # Row j (from 0) of a tie at rank k: a click with probability c / t, and then the precision there is expected to be
    # (clicks before + 1 + j (c - 1) / (t - 1)) / k.
    row_tie = np.repeat(np.arange(len(tie_first)), tie_rows)
    place = np.arange(len(ids)) - tie_first[row_tie]
    rank = np.arange(len(ids)) - group_first[tie_group][row_tie] + 1
    chance = tie_clicks / tie_rows
    others = (tie_clicks - 1) / np.maximum(tie_rows - 1, 1)
    gain = chance[row_tie] * (tie_clicks_before[row_tie] + 1 + place * others[row_tie]) / rank
    gain[rank > ranks] = 0
    with_click = group_clicks > 0
    if not with_click.any():
        return float("nan")
    precision = np.add.reduceat(gain, group_first)[with_click] / np.minimum(group_clicks[with_click], ranks)
    return float(precision.mean())


def roc_auc(scores: Array, clicks: Clicks) -> float:
    """The share of (clicked, not clicked) pairs that the scores order rightly, equal scores counting half: the
    Mann-Whitney statistic, exact. NaN if there are no such pairs."""
    positives = int(clicks.sum())
    pairs = positives * (len(clicks) - positives)
    if pairs == 0:
        return float("nan")
    order = np.argsort(scores)
    ordered, clicked = scores[order], clicks[order].astype(np.int64)
    tie_first = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    tie_clicks = np.add.reduceat(clicked, tie_first)
    tie_rows = np.diff(np.append(tie_first, len(ordered)))
    misses_before = tie_first - (np.cumsum(tie_clicks) - tie_clicks)
    twice_won = int((tie_clicks * (2 * misses_before + tie_rows - tie_clicks)).sum())
    return twice_won / (2 * pairs)


def log_loss(scores: Array, clicks: Clicks) -> float:
    """Mean of -log of the probability given to what happened; probabilities are kept 1e-7 away from 0 and 1."""
    chances: Floats = np.clip(scores.astype(np.float64), _CLIP, 1 - _CLIP)
    return float(-np.log(np.where(clicks, chances, 1 - chances)).mean())
