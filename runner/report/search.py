"""What a report says of a search."""

from __future__ import annotations

from collections.abc import Sequence

from deployment_toolkit.results.performance import markdown_table
from runner.report.results import ExperimentResult
from runner.report.search_plot import search_plot
from runner.search.measured import Point, frontier, points
from runner.search.stage import FOLDER, search_of, space_of
from runner.search.table import SEARCH_TABLE
from runner.search.verdict import Verdict


def plot_name(number: int) -> str:
    """File name of the picture of an experiment's search."""
    return f"search_{number}.png"


def search_plots(results: Sequence[ExperimentResult], provenance: str) -> dict[str, bytes]:
    """A picture per experiment that was searched, by file name."""
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
    """Parts of the report on an experiment: the choice and why, the picture, the frontier; nothing if it was not
    searched."""
    if not result.search:
        return []
    number, folder = result.experiment.number, result.experiment.folders.results.name
    known = points(result.search)
    parts = [
        "### Search\n",
        f"{len(result.search)} visits of {len({point.candidate for point in known})} candidates.\n",
    ]
    chosen: Point | None = None
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


def _row(point: Point, chosen: bool) -> dict[str, object]:
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
