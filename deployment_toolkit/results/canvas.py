"""Canvas and colours of all pictures. The Agg canvas is used directly: no display, no global state of matplotlib."""

from __future__ import annotations

import io

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Paul Tol's bright scheme, distinct with any kind of colour vision.
BLUE, CYAN, GREEN = "#4477aa", "#66ccee", "#228833"
YELLOW, PINK, PURPLE, GREY = "#ccbb44", "#ee6677", "#aa3377", "#bbbbbb"
LINES = (BLUE, PINK, GREEN, YELLOW, PURPLE, CYAN)
INK, SUBTITLE, GRID, RED, ORANGE = "#222222", "#555555", "#dddddd", "#cc0000", "#ff8800"
_DPI = 110


def new_figure(width_inches: float, height_inches: float, *, constrained: bool = False) -> Figure:
    """Empty figure; matplotlib arranges the parts of a constrained figure."""
    figure = Figure(figsize=(width_inches, height_inches), dpi=_DPI, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def open_frame(axes: Axes) -> None:
    """Hides the frame lines at the top and on the right."""
    axes.spines[["top", "right"]].set_visible(False)


def png(figure: Figure) -> bytes:
    """Bytes of the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
