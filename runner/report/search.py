"""Section of a report about a search."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from deployment_toolkit.results.canvas import (
    BLUE,
    CYAN,
    GREEN,
    GREY,
    GRID,
    INK,
    PURPLE,
    RED,
    SUBTITLE,
    YELLOW,
    new_figure,
    open_frame,
    png,
)
from deployment_toolkit.results.performance import markdown_table
from runner.config.search import Search
from runner.report.results import ExperimentResult
from runner.search.results import SEARCH_TABLE, ServingPoint, frontier, points
from runner.search.stage import FOLDER, search_of, space_of
from runner.search.verdict import Verdict


def plot_name(number: int) -> str:
    """File name of the picture of an experiment's search."""
    return f"search_{number}.png"


def search_plots(results: Sequence[ExperimentResult], provenance: str) -> dict[str, bytes]:
    """Pictures of the searched experiments, by file name."""
    plots = {}
    for result in results:
        if result.search:
            verdict = _verdict(result) if result.searched else None
            search = search_of(result.experiment)
            plots[plot_name(result.experiment.number)] = search_plot(
                points(result.search), search, verdict, f"Search: {result.title}", provenance
            )
    return plots


def search_section(result: ExperimentResult) -> list[str]:
    """Parts of the report on an experiment: the choice and its reason, the picture, the frontier; empty if it was not
    searched."""
    if not result.search:
        return []
    number, folder = result.experiment.number, result.experiment.folders.results.name
    known = points(result.search)
    parts = [
        "### Search\n",
        f"{len(result.search)} visits of {len({point.candidate for point in known})} candidates.\n",
    ]
    chosen: ServingPoint | None = None
    if result.searched:
        verdict = _verdict(result)
        chosen = verdict.chosen
        parts[1] = f"{parts[1].rstrip()} {verdict.paragraph}\n"
        parts.append(f"To keep the choice, write into the experiment's `parameters`:\n\n```yaml\n{verdict.yaml}\n```\n")
    else:
        parts.append("The search ended before it came to a choice.\n")
    best = frontier(known)
    shown = [*best, *([chosen] if chosen is not None and chosen not in best else [])]
    parts += [
        f"![Throughput and p99 of every candidate](plots/{plot_name(number)})\n",
        "The frontier: no other point has both more throughput and a lower p99.\n",
        markdown_table([_row(point, point == chosen) for point in sorted(shown, key=lambda item: item.p99_ms)]),
    ]
    deployed = f", [what the chosen one is deployed with]({folder}/{FOLDER}/config.pbtxt)" if result.searched else ""
    parts.append(f"Every visit: [{SEARCH_TABLE}]({folder}/{SEARCH_TABLE}){deployed}.\n")
    return parts


def _verdict(result: ExperimentResult) -> Verdict:
    return Verdict.of(result.search, space_of(result.experiment).start, search_of(result.experiment))


def _row(point: ServingPoint, chosen: bool) -> dict[str, object]:
    candidate = point.candidate
    return {
        "Instances": candidate.instances,
        "Threads": candidate.threads,
        "Preferred batch": " ".join(map(str, candidate.preferred_batch_sizes)),
        "Queue delay (us)": candidate.max_queue_delay_us,
        "Concurrency": point.concurrency,
        "Inferences/Second": f"{point.throughput:.0f}",
        "p99 latency (ms)": f"{point.p99_ms:.1f}",
        "Visits": point.visits,
        "": "chosen" if chosen else "",
    }


_COLOURS = (BLUE, YELLOW, PURPLE, CYAN, GREEN, GREY)
_MARKERS = ("o", "s", "^", "D", "v", "P")
_SIZE_INCHES = (8.6, 5.6)
_SUBTITLE_CHARACTERS = 125


def search_plot(
    known: Sequence[ServingPoint], search: Search, verdict: Verdict | None, title: str, provenance: str
) -> bytes:
    """PNG with every point, the frontier as a line, the budget, and, if there is a verdict, the chosen point and the
    configured point."""
    figure = new_figure(*_SIZE_INCHES)
    axes = figure.add_axes((0.095, 0.195, 0.88, 0.63))
    concurrencies = sorted({point.concurrency for point in known})
    for index, concurrency in enumerate(concurrencies):
        at = [point for point in known if point.concurrency == concurrency]
        axes.scatter(
            [point.p99_ms for point in at],
            [point.throughput for point in at],
            s=[70 if point.visits > 1 else 34 for point in at],
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[index % len(_MARKERS)],
            label=f"{concurrency} requests at a time",
            zorder=3,
        )
    best = frontier(known)
    axes.plot(
        [point.p99_ms for point in best],
        [point.throughput for point in best],
        color=INK, linewidth=1.2, drawstyle="steps-post", label="frontier", zorder=2,
    )  # fmt: skip
    axes.axvline(search.p99_budget_ms, color=RED, linestyle="--", linewidth=1.2, label="p99 budget")
    if verdict is not None:
        _mark_verdict(axes, verdict)
    axes.set_xlabel("p99 latency, ms")
    axes.set_ylabel("inferences per second")
    axes.set_xlim(0, 1.06 * max([search.p99_budget_ms, *(point.p99_ms for point in known)]))
    axes.set_ylim(0, 1.12 * max(point.throughput for point in known))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    open_frame(axes)
    _head(figure, search, title, provenance)
    figure.legend(loc="lower center", ncols=4, frameon=False, fontsize=8.5)
    return png(figure)


def _mark_verdict(axes: Axes, verdict: Verdict) -> None:
    chosen = verdict.chosen
    start = next((point for point in verdict.ranking if point.candidate == verdict.start), None)
    if start is not None:
        axes.scatter(
            [start.p99_ms], [start.throughput],
            s=430, facecolors="none", edgecolors=INK, linewidths=1.4, label="as configured", zorder=4,
        )  # fmt: skip
    axes.scatter(
        [chosen.p99_ms], [chosen.throughput],
        s=300, marker="*", facecolors="#ffdd55", edgecolors=INK, linewidths=1.0, label="chosen", zorder=5,
    )  # fmt: skip


def _head(figure: Figure, search: Search, title: str, provenance: str) -> None:
    load = (
        f"{search.rows_per_request} rows a request over {search.protocol}; large points are medians of several visits"
    )
    lines = [load, *textwrap.wrap(provenance, _SUBTITLE_CHARACTERS)]
    figure.text(0.02, 0.975, f"{title}: throughput against p99", fontsize=13, weight="bold", va="top")
    figure.text(0.02, 0.92, "\n".join(lines), fontsize=8.5, color=SUBTITLE, va="top")
