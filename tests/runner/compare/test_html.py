from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from runner.compare.comparison import TABLE, Comparison
from runner.compare.html import HTML
from runner.kept_run import read_kept_run
from tests.browser import Browser, needs_browser
from tests.measured_runs import PARAMETERS, capacity_row, performance_row, write_run
from tests.runner.page.conftest import browser  # noqa: F401 the fixture

EVIL = "x</script><img src=q onerror=alert(1)>"
STEADY, SLOW = (1000.0, 1010.0, 990.0), (700.0, 707.0, 693.0)
LATENCIES_US = (2000.0, 2010.0, 1990.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of two runs whose experiment has a host that would like to be a script."""
    root = tmp_path_factory.mktemp("html")
    runs = []
    for name, rates in (("base", STEADY), ("slow", SLOW)):
        offline = [performance_row(rates, LATENCIES_US), performance_row(STEADY, LATENCIES_US, Batch=64)]
        online = [performance_row(rates, LATENCIES_US, Batch=32, Concurrency=64, Settled=name == "base")]
        capacity = [capacity_row(rates[0]), capacity_row(1.05 * rates[0], Valid=False, Capacity=False)]
        parameters = {**PARAMETERS, "host": EVIL if name == "slow" else "cpp"}
        runs.append(write_run(root / name, offline, online, capacity, parameters=parameters))
    comparison = Comparison.of([read_kept_run(run) for run in runs])
    comparison.write(root / "out", comparison.judge(0.05))
    return root / "out"


@needs_browser
@pytest.mark.parametrize("width", [1280, 390])
def test_page_draws_every_chart_and_has_the_figures_of_the_table(folder: Path, browser: Browser, width: int) -> None:  # noqa: F811
    browser.open(folder / HTML, width=width, phone=width == 390)
    assert browser.complaints == [] and len(browser.requests) == 1
    drawn = browser.evaluate(
        "[...document.querySelectorAll('canvas')].map(c => c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data.some(v => v))"
    )
    assert drawn == [True] * 6, "the differences, rate and p99 of two sweeps, a capacity"
    told = json.loads(browser.evaluate("document.getElementById('page-data').textContent"))
    with (folder / TABLE).open(newline="") as file:
        assert told["figures"] == list(csv.DictReader(file))
    text = browser.evaluate("document.body.innerText")
    assert "got worse by more than 5 % beyond noise" in text and EVIL in text
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
