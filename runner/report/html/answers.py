"""The four questions that a report is opened for, answered at the top of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from markupsafe import Markup

from runner.kept_run import DIFFERENCE, KeptExperiment, KeptRun, metrics_of
from runner.page.elements import big, data_block, joined, paragraph, table
from runner.report.html.before import before_answer
from runner.report.html.offers import (
    FULL_PRECISION,
    Offer,
    Wanted,
    best_for,
    budgets_of,
    demand_of,
    has_capacity,
    is_right,
    offers_of,
    precision_of,
    rate_of,
    recommended,
)
from runner.report.html.titles import metric_title

_CLOSED = (
    "Measured with clients that wait for each answer, which hides queueing: a rate that they reach is more than the "
    "server takes within this p99 when requests come at random."
)
_BOUND = (
    "≥: the server may do more, since the time was over before the search was, or the client sent late; then fewer "
    "servers do. report.md marks each such rate."
)
_HOW_TO_CAPACITY = Markup(
    "To measure what it takes at random arrivals, write <code>capacity: {}</code> into the configuration and run again."
)


def answers(run: KeptRun) -> Markup:
    """The four questions with their answers."""
    offers = offers_of(run)
    demand = demand_of(run, offers)
    best = best_for(offers, demand)
    choice = recommended(run, best)
    cards = [
        _card("Which format do I deploy?", _format(run, choice, best)),
        _card("How many requests a second at my latency?", _rates(run, choice, offers, demand)),
        _card("How many machines?", _machines(run, offers, demand, best)),
        _card("Better or worse than before?", before_answer(run)),
    ]
    return Markup('<div class="answers">{}</div>').format(joined(cards))


def _card(question: str, body: Markup) -> Markup:
    return Markup('<div class="answer"><h2>{}</h2>\n{}\n</div>').format(question, body)


def _format(run: KeptRun, choice: KeptExperiment | None, best: Mapping[str, Offer]) -> Markup:
    if choice is None:
        return joined([big("None yet"), paragraph(_why_none(run))])
    parameters = choice.parameters
    name = Markup("{} {} <small>experiment {}</small>").format(
        parameters["format"], parameters["precision"], choice.number
    )
    why = "the highest rate within the latency budget" if best else "the highest throughput that was measured"
    parts = [
        big(name),
        paragraph(f"It has {why} of the experiments whose answers are right. {_rightness(run, choice)}"),
    ]
    same = recommended(run, best, precision=FULL_PRECISION)
    if same is not None and same is not choice:
        rates = [rate_of(item, best) for item in (same, choice)]
        share = f" at {rates[0] / rates[1]:.0%} of its rate" if all(rates) else ""
        told = f"{same.parameters['format']} {same.parameters['precision']}{share}. {_rightness(run, same)}"
        parts.append(paragraph(f"With answers as from the framework: {told}"))
    wrong = [item.title for item in run.experiments if item.correctness and not is_right(item)]
    if wrong:
        parts.append(paragraph(f"Never deploy, for their answers differ: {'; '.join(wrong)}.", "bad"))
    return joined(parts)


def _why_none(run: KeptRun) -> str:
    if not any(item.correctness for item in run.experiments):
        return "No experiment came as far as the comparison of its answers with the framework's."
    if not any(map(is_right, run.experiments)):
        return "No experiment's answers passed the comparison with the framework's: see Correctness."
    return "The answers are right, but no throughput was measured: see Stages for what failed or was left out."


def _rightness(run: KeptRun, experiment: KeptExperiment) -> str:
    """Sentence about how far its served answers are from the framework's."""
    reference, *served = experiment.correctness
    told = []
    for metric in metrics_of(reference):
        farthest = max(served, key=lambda row: abs(float(row[f"{metric}{DIFFERENCE}"] or 0)), default=reference)
        told.append(
            f"{metric_title(run, metric)} {float(farthest[metric]):.4f} (framework {float(reference[metric]):.4f})"
        )
    differences = [float(row["max_abs_diff"]) for row in served if row["max_abs_diff"]]
    largest = f"; no answer differs by more than {max(differences):.2g}" if differences else ""
    return f"Served, it has {', '.join(told[:2])}{largest}."


def _rates(run: KeptRun, choice: KeptExperiment | None, offers: Sequence[Offer], demand: Wanted) -> Markup:
    own = [offer for offer in offers if offer.experiment is choice]
    fitting = [offer for offer in own if (offer.rows, offer.budget_ms) == (demand.rows, demand.budget_ms)]
    if not own:
        text = "No rate that was measured holds a latency budget." if offers or has_capacity(run) else (
            "Neither capacity nor an online sweep was measured of an experiment whose answers are right."
        )  # fmt: skip
        return joined(
            [big("Not known"), paragraph(text), *([] if has_capacity(run) else [paragraph(_HOW_TO_CAPACITY)])]
        )
    shown = fitting[0] if fitting else own[-1]
    least = "≥ " if shown.is_lower_bound else ""
    told = Markup("{}{:,.0f} requests/s <small>of {} rows at p99 ≤ {:g} ms: {:,.0f} inferences/s</small>").format(
        least, shown.requests, shown.rows, shown.budget_ms, shown.inferences
    )
    note = paragraph(
        "Requests come at random, and p99 counts from when a request was due."
        if has_capacity(run)
        else Markup("{} {}").format(_CLOSED, _HOW_TO_CAPACITY),
        "note",
    )
    bounds = [paragraph(_BOUND, "note")] if any(offer.is_lower_bound for offer in own) else []
    return joined([big(told), table(list(_rate_lines(own))), *bounds, note])


def _rate_lines(offers: Sequence[Offer]) -> Iterator[dict[str, object]]:
    last: tuple[object, ...] = ()
    for offer in offers:
        point = (offer.rows, offer.clients, offer.inferences)
        if offer.clients and point == last:
            continue  # the same point fits the next budget, too
        last = point
        line: dict[str, object] = {
            "rows": offer.rows,
            "p99 ≤ ms": f"{offer.budget_ms:g}",
            "requests/s": f"{offer.requests:,.0f}",
            "inferences/s": f"{offer.inferences:,.0f}",
            "p99": f"{offer.p99_ms:.1f}",
        }
        yield {**line, "clients": offer.clients} if offer.clients else line


def _machines(run: KeptRun, offers: Sequence[Offer], demand: Wanted, best: Mapping[str, Offer]) -> Markup:
    if not offers:
        return joined([big("Not known"), paragraph("Servers are counted from the rates of the question before.")])
    goal = (
        f"for {demand.inferences:,.0f} rows/s in requests of {demand.rows} at p99 ≤ {demand.budget_ms:g} ms, each at "
        f"{demand.load:.0%} load"
    )
    if best:
        first = next(iter(best.values()))
        count = first.servers(demand)
        told = Markup("{}{:,} {} <small>{}: {}</small>").format(
            "≤ " if first.is_lower_bound else "",
            count,
            "server" if count == 1 else "servers",
            goal,
            _name(first.experiment),
        )
    else:
        told = Markup("None fits <small>{}</small>").format(goal)
    lines = [
        {
            "deploy": _name(offer.experiment),
            "servers": f"{offer.servers(demand):,}",
            "requests/s": f"{offer.requests:,.0f}",
            "inferences/s": f"{offer.inferences:,.0f}",
        }
        for offer in best.values()
    ] or [dict.fromkeys(("deploy", "servers", "requests/s", "inferences/s"), "-")]
    rough = "" if has_capacity(run) else " They come from closed loops, so take the number as the least."
    note = f"Servers of this host's size; n servers are taken to do n times as much.{rough}"
    form = Markup('<form class="sizing">{}{}{}</form>').format(
        _fields(run, offers, demand), table(lines), data_block("sizing-data", [_plain(offer) for offer in offers])
    )
    return joined([big(told), form, paragraph(note, "note")])


def _fields(run: KeptRun, offers: Sequence[Offer], demand: Wanted) -> Markup:
    sizes = sorted({offer.rows for offer in offers} | {demand.rows})
    budgets = sorted({*budgets_of(run), demand.budget_ms})
    fields = [
        Markup('<label>rows/s <input name="wanted" type="number" min="1" value="{:.0f}"></label>').format(
            demand.inferences
        ),
        Markup('<label>rows a request <select name="rows">{}</select></label>').format(_choices(sizes, demand.rows)),
        Markup('<label>p99 within <select name="budget">{}</select> ms</label>').format(
            _choices(budgets, demand.budget_ms)
        ),
        Markup('<label>load <input name="load" type="number" min="1" max="100" value="{:.0f}"> %</label>').format(
            demand.load * 100
        ),
    ]
    return Markup('<div class="fields">{}</div>').format(joined(fields))


def _choices(values: Sequence[float], chosen: float) -> Markup:
    return joined(
        Markup('<option value="{:g}"{}>{:g}</option>').format(
            value, Markup(" selected" if value == chosen else ""), value
        )
        for value in values
    )


def _plain(offer: Offer) -> dict[str, object]:
    return {
        "title": _name(offer.experiment),
        "precision": precision_of(offer.experiment),
        "rows": offer.rows,
        "budget_ms": offer.budget_ms,
        "inferences": offer.inferences,
    }


def _name(experiment: KeptExperiment) -> str:
    return f"{experiment.parameters['format']} {experiment.parameters['precision']}" + (
        f", {experiment.parameters.get('model')}" if experiment.role else ""
    )
