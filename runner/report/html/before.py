"""Answer to the question whether a run is better or worse than the one before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from markupsafe import Markup

from deployment_toolkit.results.tables import read_csv
from runner.kept_run import KeptRun
from runner.page.elements import big, items, joined, paragraph

COMPARISON = "comparison"  # folder in that of the run, if it was compared with its baseline
_PAGES = ("comparison.html", "comparison.md", "comparison.csv")  # the best to read first
_SHOWN = 4


def before_answer(run: KeptRun) -> Markup:
    """Whether the run is better or worse than its baseline, if it was compared with one."""
    table_of_comparison = run.folder / COMPARISON / "comparison.csv"
    if not table_of_comparison.is_file():
        text = Markup(
            "This run was not compared. <code>python -m runner.compare BEFORE {}</code> compares it with another run "
            "or a kept report, and says what is better, worse, or can't be told apart. <code>baseline:</code> in the "
            "configuration does so at the end of each run."
        ).format(run.name)
        return joined([big("Not compared"), paragraph(text)])
    lines = read_csv(table_of_comparison)
    verdicts = Counter(line.get("verdict", "") for line in lines)
    better, worse = verdicts["better"], verdicts["worse"]
    equal = verdicts["can't be told apart"]
    before = next((line.get("base", "") for line in lines), "the run before")
    word = "Worse" if worse and not better else "Better" if better and not worse else "Mixed" if worse else "As before"
    head = Markup("{} <small>against {}: {} figures better, {} worse, {} can't be told apart</small>").format(
        word, before, better, worse, equal
    )
    told = [_compared(line) for line in lines if line.get("verdict") == "worse"]
    page = next(f"{COMPARISON}/{name}" for name in _PAGES if (run.folder / COMPARISON / name).is_file())
    more = [f"and {len(told) - _SHOWN} more"] if len(told) > _SHOWN else []
    link = Markup('Every figure: <a href="{}">{}</a>').format(page, page)
    return joined([big(head), *([items([*told[:_SHOWN], *more])] if told else []), paragraph(link)])


def _compared(line: Mapping[str, str]) -> str:
    point = ", ".join(f"{name} {line[name]}" for name in ("batch", "concurrency") if line.get(name))
    place = ", ".join(filter(None, (line.get("experiment"), line.get("scenario"), point)))
    figures = f"{line.get('measure')} {line.get('base value')} -> {line.get('value')}"
    return f"{place}: {figures} {line.get('difference', '')}".rstrip()
