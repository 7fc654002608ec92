"""Pictures of the bars, as PNG bytes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.bars.bar import BarOutcome
from benchmarks.bars.cpu_share import GROUPS
from deployment_toolkit.results.canvas import (
    BLUE,
    CYAN,
    GREEN,
    GRID,
    INK,
    PINK,
    PURPLE,
    SUBTITLE,
    YELLOW,
    new_figure,
    open_frame,
    png,
)

_MET, _MISSED = GREEN, PINK
_SHARE_COLOURS = dict(zip(GROUPS, (BLUE, YELLOW, CYAN, PURPLE, GRID), strict=True))
_WIDTH_INCHES, _ROW_INCHES, _HEAD_INCHES = 10.0, 0.55, 1.9
_LONGEST = 2.0  # larger shares are cut off: next to them the others would look equal
_LABEL_CHARACTERS, _PROVENANCE_CHARACTERS = 52, 130


def draw_bars(outcomes: Sequence[BarOutcome], provenance: str) -> bytes:
    """Picture of each bar next to its goal, both as shares of the goal; for ``at_most`` bars the goal is a share of the
    value, so that longer is always better. A bar is cut off at twice the goal."""
    figure = _figure(len(outcomes))
    axes = figure.add_subplot()
    for place, item in enumerate(outcomes):
        if item.failure or item.skipped:
            said, colour = ("failed", _MISSED) if item.failure else ("skipped", INK)
            axes.text(0.02, place, said, va="center", color=colour, fontsize=9)
            continue
        low, middle, high = (_reached(item, value) for value in (min(item.ratios), item.median, max(item.ratios)))
        axes.barh(place, middle, color=_MET if item.met else _MISSED, height=0.62)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.6, marker="|", markersize=8)
        cut_off = "» " if middle == _LONGEST else ""
        goal = f"{cut_off}{item.median:.3g}  ({'≤' if item.bar.at_most else '≥'} {item.bar.goal:g})"
        axes.text(max(low, middle, high, 1.0) + 0.02, place, goal, va="center", fontsize=9, color=INK)
    axes.axvline(1.0, color=INK, linestyle="--", linewidth=1.2)
    labels = ["\n".join(textwrap.wrap(item.what, _LABEL_CHARACTERS)) for item in outcomes]
    axes.set_yticks(range(len(outcomes)), labels, fontsize=8.5)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.1) * 1.12)
    axes.set_xlabel("share of the goal reached (dashed: the goal)")
    return _finish(figure, axes, "Bars", provenance)


def draw_shares(shares: Mapping[str, Mapping[str, float]], provenance: str) -> bytes:
    """Picture of the CPU shares, a stacked bar for each subject."""
    figure = _figure(len(shares) + 1)
    axes = figure.add_subplot()
    for place, (_, cores) in enumerate(shares.items()):
        left = 0.0
        for group in GROUPS:
            label = group if place == 0 else None
            axes.barh(place, cores[group], left=left, color=_SHARE_COLOURS[group], height=0.6, label=label)
            if cores[group] > 0.08:
                axes.text(left + cores[group] / 2, place, f"{cores[group]:.2f}", ha="center", va="center", fontsize=9)
            left += cores[group]
    axes.set_yticks(range(len(shares)), list(shares), fontsize=9)
    axes.set_xlabel("cores")
    figure.legend(loc="outside lower center", ncols=len(GROUPS), frameon=False, fontsize=9)
    return _finish(figure, axes, "Online: who has the cores", provenance)


def _reached(item: BarOutcome, value: float) -> float:
    reached = item.bar.goal / max(value, 1e-9) if item.bar.at_most else value / item.bar.goal
    return min(reached, _LONGEST)


def _figure(rows: int) -> Figure:
    return new_figure(_WIDTH_INCHES, _HEAD_INCHES + _ROW_INCHES * rows, constrained=True)


def _finish(figure: Figure, axes: Axes, title: str, provenance: str) -> bytes:
    axes.invert_yaxis()
    open_frame(axes)
    figure.suptitle(title, x=0.02, ha="left", fontsize=13, weight="bold")
    text = "\n".join(textwrap.wrap(provenance, _PROVENANCE_CHARACTERS))
    axes.set_title(text, loc="right", fontsize=8.5, color=SUBTITLE)
    return png(figure)
