"""Picture of the comparison: a panel per cell, a bar per system."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.results import OWN, Cell, Values
from deployment_toolkit.results.canvas import BLUE, GREY, INK, new_figure, open_frame, png

_PANEL_INCHES = (3.6, 2.3)
_TITLE_INCHES = 0.8


def comparison_png(values: Values, titles: Sequence[str], title: str, provenance: str) -> bytes:
    """PNG of the rows per second of ``values``: rows per request downwards, requests in flight to the right."""
    cells = {cell for system in values.values() for cell in system}
    rows, concurrencies = sorted({cell.rows for cell in cells}), sorted({cell.concurrency for cell in cells})
    width, height = _PANEL_INCHES[0] * len(concurrencies), _PANEL_INCHES[1] * len(rows) + _TITLE_INCHES
    figure = new_figure(width, height, constrained=True)
    panels = figure.subplots(len(rows), len(concurrencies), squeeze=False)
    for row, panel_row in zip(rows, panels, strict=True):
        for concurrency, axes in zip(concurrencies, panel_row, strict=True):
            cell = Cell(row, concurrency)
            shown = [name for name in titles if cell in values[name]]
            rates = [values[name][cell].rows_per_s for name in shown]
            colours = [BLUE if name in OWN else GREY for name in shown]
            bars = axes.barh(shown, rates, color=colours)
            axes.bar_label(bars, labels=[f" {rate:,.0f}" for rate in rates], fontsize=7, color=INK)
            axes.invert_yaxis()
            axes.margins(x=0.28)
            axes.set_title(f"{concurrency} at once, {row} rows each", fontsize=9, loc="left")
            axes.tick_params(labelsize=7)
            open_frame(axes)
            axes.xaxis.set_visible(False)
    figure.suptitle(f"{title}: rows per second\n{provenance}", fontsize=10, color=INK)
    return png(figure)
