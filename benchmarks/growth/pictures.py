"""Pictures of growth, one per axis, as PNG bytes."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes

from benchmarks.growth.point import GrowthPoint
from benchmarks.growth.tables import GrowthQuantity
from deployment_toolkit.results.canvas import GRID, LINES, new_figure, open_frame, png

_PANEL_INCHES = (5.4, 4.6)
_PROVENANCE_CHARACTERS = 120
_DECADES, _DECADE = 100, 10


def draw(
    title: str, size_title: str, quantities: Sequence[GrowthQuantity], points: Sequence[GrowthPoint], provenance: str
) -> bytes:
    """Draws a panel per quantity, a line per subject. Values that span decades have a logarithmic axis; if both axes
    do, the dotted line shows proportional growth. Other axes begin at zero."""
    width, height = _PANEL_INCHES
    figure = new_figure(width * len(quantities), height, constrained=True)
    sizes = sorted({point.size for point in points})
    subjects = list(dict.fromkeys(point.subject for point in points))
    for number, quantity in enumerate(quantities, 1):
        axes = figure.add_subplot(1, len(quantities), number)
        for colour, subject in zip(LINES * len(subjects), subjects, strict=False):
            own = [point for point in points if point.subject == subject and not math.isnan(quantity.value(point))]
            values = [quantity.value(point) for point in own]
            axes.plot([point.size for point in own], values, marker="o", color=colour, label=subject)
        axes.set_xlabel(size_title)
        axes.set_title(quantity.title, loc="left", fontsize=10)
        open_frame(axes)
        if sizes[-1] >= _DECADES * sizes[0]:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, sizes[-1] * 1.05)
            axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        bottom, top = axes.dataLim.intervaly
        if axes.get_xscale() == "log" and top >= _DECADE * bottom:
            axes.set_yscale("log")
            _guide(axes)
        else:
            axes.set_ylim(0, top * 1.1)
        axes.grid(which="major", color=GRID)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 6), frameon=False, fontsize=9)
    text = "\n".join(textwrap.wrap(provenance, _PROVENANCE_CHARACTERS))
    figure.suptitle(f"{title}\n{text}", x=0.01, ha="left", fontsize=9)
    return png(figure)


def _guide(axes: Axes) -> None:
    low, high = axes.get_xlim()
    bottom, top = axes.get_ylim()
    span = min(high / low, top / bottom)
    axes.plot([low, low * span], [bottom, bottom * span], color="#999999", linestyle=":", linewidth=1)
    axes.set_xlim(low, high)
    axes.set_ylim(bottom, top)
