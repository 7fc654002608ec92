"""What a run was: its configuration, host, versions, commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

import yaml
from markupsafe import Markup

from runner.kept_run import ENSEMBLE, KeptExperiment, KeptRun
from runner.page.charts import chart_grid
from runner.page.elements import code, folded, items, joined, paragraph, table, transposed

_FILES = {
    "config.pbtxt": "what the server was told",
    "replay.sh": "repeats every command",
    "search.csv": "every visit of the search",
}


def configuration_section(run: KeptRun) -> Markup:
    """Settings of each experiment, and the run's whole configuration."""
    settings = [
        {"setting": item.title, **{name: text for name, text in item.parameters.items() if name != "experiment"}}
        for item in run.experiments
    ]
    names = list(dict.fromkeys(name for row in settings for name in row))
    whole = yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True, width=100)
    return joined(
        [
            transposed([{name: row.get(name, "") for name in names} for row in settings]),
            folded("The whole configuration, with defaults", code(whole)),
        ]
    )


def host_section(run: KeptRun) -> Markup:
    """The host and the versions of what ran on it."""
    system = {name: value for name, value in run.system.items() if name != "packages"}
    facts = [{"host": name.replace("_", " "), "": _text(value)} for name, value in system.items()]
    packages = [{"package": name, "version": text} for name, text in (run.system.get("packages") or {}).items()]
    return chart_grid([table(facts), table(packages)])


def parts_of(run: KeptRun) -> list[Mapping[str, object]]:
    """The parts of a run that was resumed, each with its command, times and host; empty for any other run."""
    told = run.task.get("parts")
    return [part for part in told if isinstance(part, Mapping)] if isinstance(told, list) else []


def commands_section(run: KeptRun) -> Markup:
    """What repeats the run, its experiments, and this page."""
    parts = [paragraph("The run:"), code(run.command)]
    resumed = parts_of(run)
    parts += [paragraph("Its parts:"), table(resumed)] if resumed else []
    found = [_files_of(run, item) for item in run.experiments]
    if any(found):
        parts += [paragraph("Files of each experiment:"), items(filter(None, found))]
    parts += [
        paragraph("This page, made again from the run's files:"),
        code(f"python -m runner.report.html {run.name}"),
    ]
    return joined(parts)


def _files_of(run: KeptRun, item: KeptExperiment) -> Markup | None:
    folder = PurePosixPath(f"experiment_{item.number}", *([ENSEMBLE] if item.role else []))
    links = [
        Markup('<a href="{}">{}</a> ({})').format(folder / name, folder / name, purpose)
        for name, purpose in _FILES.items()
        if (run.folder / folder / name).is_file()
    ]
    return Markup("{}: {}").format(item.title, Markup(", ").join(links)) if links else None


def _text(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
