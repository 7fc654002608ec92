from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection

from deployment_toolkit.results.capacity import marked
from deployment_toolkit.results.capacity_plots import capacity_figure, capacity_plots
from tests.deployment_toolkit.results.test_capacity import row

PROVENANCE = "on a host, 2026-11-30"


def marks(axes: Axes) -> dict[str, list[list[float]]]:
    """Offered inferences per second and latency in milliseconds of the marked points, by the mark's meaning."""
    found: dict[str, list[list[float]]] = {}
    for item in axes.collections:
        assert isinstance(item, PathCollection)
        points = np.asarray(item.get_offsets()).tolist()
        found.setdefault(str(item.get_label()), []).extend(points)
    return found


def test_capacity_plot_marks_the_rate_that_holds_and_what_does_not_count() -> None:
    runs = [
        row(1, 20, 500.0),
        row(32, 10, 100.0),
        row(32, 20, 200.0),
        row(32, 20, 300.0, Valid=False),  # p99 of 4 ms: invalid for another reason
        row(32, 20, 400.0, Valid=False, **{"p99 latency": 9e6, "Late Sends": 0.5}),
    ]
    figure = capacity_figure({"1: onnx": marked(runs), "2: none holds": [row(32, 50, 100.0, Valid=False)]}, PROVENANCE)
    one, many = figure.axes
    assert [axes.get_title("left") for axes in figure.axes] == ["requests of 1 row", "requests of 32 rows"]
    assert marks(one) == {"the rate that holds": [[500, 4]]}
    found = marks(many)
    assert found["the rate that holds"] == [[3200, 4], [6400, 4]]
    assert found["the client sent late"] == [[12800, 9000]]
    assert found["within the budget, but LoadGen calls the run invalid"] == [[9600, 4], [3200, 4]]
    budgets = [np.asarray(line.get_ydata())[0] for line in many.lines if line.get_label() == "p99 budget"]
    assert budgets == [10, 20, 50]
    assert many.get_ylim()[1] < 1000, "what is far beyond saturation leaves the picture"
    assert [text.get_text() for text in figure.legends[0].get_texts()][:4] == ["1: onnx", "2: none holds", "p99", "p50"]
    ((name, content),) = capacity_plots({"1: onnx": runs}, PROVENANCE).items()
    assert name == "capacity.png" and content.startswith(b"\x89PNG")
