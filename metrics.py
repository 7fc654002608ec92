"""Plug-in for ``--metrics``: MAP@12 by display, ROC AUC and log loss."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from deployment_toolkit.core import Array, Arrays
from deployment_toolkit.errors import DataError, UsageError

_RANKS = 12
_NAMES = ("map12", "roc_auc", "log_loss")
_CLIP = 1e-7  # Keras's epsilon: keeps the log loss of a probability of exactly 0 or 1 finite

Floats = npt.NDArray[np.float64]
Clicks = npt.NDArray[np.bool_]

_BLOCK_ROWS = 1 << 17  # rows per block: a block fits in the cache, and memory stays small for any number of rows


class MetricsCalculator:
    """Calculator of the metrics, batch by batch; keeps 13 bytes per row (9 with 32-bit ids), and as many again for
    ranking."""

    lower_is_better = ("log_loss",)

    def __init__(self, *, output_used_for_metrics: str = "wide_deep_model") -> None:
        self._output = output_used_for_metrics
        self._ids: list[Array] = []
        self._scores: list[Array] = []
        self._clicks: list[Clicks] = []

    def update(self, ids: Array, y_pred: Arrays, x: Arrays | None, y_real: Arrays) -> None:
        """Adds rows: ``ids`` [B] or [B, 1] group them; the output's probabilities and the labels (0 or 1) are [B, 1] or
        [B]. The label is the one with the output's name, or the only one.

        Raises UsageError if the output is missing, DataError if labels are missing or numbers of rows differ.
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
        """Values of ``map12``, ``roc_auc`` and ``log_loss`` for all rows so far. A metric that isn't defined is NaN:
        all metrics without rows or with a prediction that is NaN; ``map12`` without clicks or if every row is a
        separate group (as in data without group ids: nothing is ranked); ``roc_auc`` with labels of one kind."""
        if self._nothing:
            return dict.fromkeys(_NAMES, float("nan"))
        ids, scores, clicks = self._rows
        grouped = _grouped(ids, scores, clicks)
        ranked = bool((grouped[0][1:] == grouped[0][:-1]).any())
        return {
            "map12": mean_average_precision(*grouped) if ranked else float("nan"),
            "roc_auc": roc_auc(scores, clicks),
            "log_loss": log_loss(scores, clicks),
        }

    @property
    def undefined(self) -> dict[str, str]:
        """Why metrics are NaN, by metric."""
        if self._nothing:
            return dict.fromkeys(_NAMES, self._nothing)
        ids, _, clicks = self._rows
        if not clicks.any():
            return dict.fromkeys(("map12", "roc_auc"), "every label is 0, there is no click")
        reasons = {"roc_auc": "every label is 1"} if clicks.all() else {}
        if np.unique(ids).size == ids.size:
            reasons["map12"] = "every row is a group of its own, so nothing is ranked: the data need group ids"
        return reasons

    @property
    def _rows(self) -> tuple[Array, Array, Clicks]:
        """Ids, scores and clicks of all rows."""
        return _joined(self._ids), _joined(self._scores), _joined(self._clicks)

    @property
    def _nothing(self) -> str:
        """Reason why no metric at all is defined; empty if some may be."""
        if not sum(part.size for part in self._ids):
            return "there are no rows"
        wrong = int(np.isnan(self._rows[1]).sum())
        return f"{wrong} of the predictions are no number (NaN)" if wrong else ""


def mean_average_precision(ids: Array, scores: Array, clicks: Clicks, ranks: int = _RANKS) -> float:
    """MAP@``ranks`` over the groups of rows with equal ``ids``, in any order of rows and for groups of any size.

    AP@n = sum over the ranks k <= n that hold a click of precision(k), divided by min(clicks, n), as the Outbrain
    competition defines it (https://www.kaggle.com/wiki/MeanAveragePrecision). Like the original's metric, the mean is
    over groups with a click; the others have no AP. Equal scores have no order: their AP is the mean over every order
    (McSherry and Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
    Scores, ECIR 2008), so that the order of rows has no effect.

    Processes about a hundred thousand rows at a time; only rows that aren't ordered by id need additional memory.
    """
    ids, scores, clicks = _grouped(ids, scores, clicks)
    total, groups, start = 0.0, 0, 0
    while start < len(ids):
        last = min(start + _BLOCK_ROWS, len(ids)) - 1
        stop = int(np.searchsorted(ids, ids[last], side="right"))  # a group is never cut
        block = slice(start, stop)
        precisions = _average_precisions(ids[block], scores[block], clicks[block], ranks)
        total += float(precisions.sum())
        groups += len(precisions)
        start = stop
    return total / groups if groups else float("nan")


def _grouped(ids: Array, scores: Array, clicks: Clicks) -> tuple[Array, Array, Clicks]:
    """Rows ordered by id; the same arrays if they are ordered already."""
    if (ids[1:] >= ids[:-1]).all():
        return ids, scores, clicks
    order = np.argsort(ids)
    return ids[order], scores[order], clicks[order]


def _average_precisions(ids: Array, scores: Array, clicks: Clicks, ranks: int) -> Floats:
    """AP@``ranks`` of each group with a click, for rows ordered by id."""
    group_first = _first_of_runs(ids[1:] != ids[:-1])
    group = np.repeat(np.arange(len(group_first)), np.diff(np.append(group_first, len(ids))))
    values, position = np.unique(-scores, return_inverse=True)
    key = group * len(values) + position  # by group, the highest score first: much faster to sort than two keys
    order = np.argsort(key)
    key, clicked = key[order], clicks[order].astype(np.int64)
    tie_first = _first_of_runs(key[1:] != key[:-1])
    group_clicks = np.add.reduceat(clicked, group_first)
    # For each tie: its rows, its clicks, and the rows and clicks of its group that come before it.
    tie_rows = np.diff(np.append(tie_first, len(ids)))
    tie_clicks = np.add.reduceat(clicked, tie_first)
    tie_group = group[tie_first]
    clicks_before = np.cumsum(clicked)[tie_first] - clicked[tie_first]
    tie_clicks_before = clicks_before - clicks_before[np.searchsorted(tie_first, group_first)][tie_group]
    # Row j (from 0) of a tie at rank k is a click with probability c / t; then the expected precision at this rank is
    # (clicks before + 1 + j (c - 1) / (t - 1)) / k.
    row_tie = np.repeat(np.arange(len(tie_first)), tie_rows)
    place = np.arange(len(ids)) - tie_first[row_tie]
    rank = np.arange(len(ids)) - group_first[group] + 1
    chance = tie_clicks / tie_rows
    others = (tie_clicks - 1) / np.maximum(tie_rows - 1, 1)
    gain = chance[row_tie] * (tie_clicks_before[row_tie] + 1 + place * others[row_tie]) / rank
    gain[rank > ranks] = 0
    with_click = group_clicks > 0
    precisions: Floats = np.add.reduceat(gain, group_first)[with_click] / np.minimum(group_clicks[with_click], ranks)
    return precisions


def _first_of_runs(changes: Clicks) -> Array:
    """Start positions of runs of equal values; ``changes`` is True between neighbours that differ."""
    return np.flatnonzero(np.append(True, changes))


def roc_auc(scores: Array, clicks: Clicks) -> float:
    """Share of (clicked, not clicked) pairs that the scores order correctly, equal scores counted as half: the exact
    Mann-Whitney statistic. NaN if there are no such pairs."""
    clicked, others = np.sort(scores[clicks]), np.sort(scores[~clicks])
    pairs = len(clicked) * len(others)
    if pairs == 0:
        return float("nan")
    twice_won = 0
    for start in range(0, len(clicked), _BLOCK_ROWS):
        block = clicked[start : start + _BLOCK_ROWS]
        beaten, not_beating = others.searchsorted(block, "left"), others.searchsorted(block, "right")
        twice_won += int(beaten.sum() + not_beating.sum())
    return twice_won / (2 * pairs)


def log_loss(scores: Array, clicks: Clicks) -> float:
    """Mean of -log of the probability of the actual label; probabilities are kept 1e-7 away from 0 and 1."""
    total = 0.0
    for start in range(0, len(scores), _BLOCK_ROWS):
        block = slice(start, start + _BLOCK_ROWS)
        chances: Floats = np.clip(scores[block].astype(np.float64), _CLIP, 1 - _CLIP)
        total -= float(np.log(np.where(clicks[block], chances, 1 - chances)).sum())
    return total / len(scores)


def _joined(parts: list[Array]) -> Array:
    """Joins the parts into one array, which replaces them in the list, so that rows are in memory once."""
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
