from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployment_toolkit.errors import DataError
from runner.page import library
from runner.page.charts import Chart, ChartKind, Limit, Mark, Point, Series, chart_figure, chart_grid
from runner.page.document import Section, html_page
from runner.page.elements import code, data_block, folded, items, joined, paragraph, table, transposed
from tests.browser import Browser, needs_browser

ATTACK = """</script></style>'"><img src=x onerror="hits=1"><script>hits=1</script><!-- &lt;{}"""
HITS = "globalThis.hits"
DRAWN = """[...document.querySelectorAll("canvas")].map((canvas) => {
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const colours = new Set();
  for (let at = 0; at < pixels.length; at += 4) if (pixels[at + 3]) colours.add(pixels.slice(at, at + 3).join());
  return colours.size;
})"""
LEGENDS = """[...document.querySelectorAll("canvas")].map((canvas) => Chart.getChart(canvas).legend.legendItems.map(
  (item) => item.fillStyle))"""
POINTS = """[...document.querySelectorAll("canvas")].map((canvas) => Chart.getChart(canvas).data.datasets.map(
  (series) => [series.label, series.data.map((point) => [point.x, point.y])]))"""


def chart(kind: ChartKind, **changed: Any) -> Chart:
    """Two series of three points, with ATTACK in every text."""
    names = [] if kind in (ChartKind.LINE, ChartKind.STEPS) else ["p", ATTACK, "q"]
    series = []
    for number, name in enumerate(("first", ATTACK)):
        values = [(place, 10.0**place * (number + 2)) for place in range(3)]
        points = [Point(names[x] if names else float(x), y, (ATTACK,), Mark.DOUBTFUL) for x, y in values]
        if kind is ChartKind.SPANS:
            points = [Point((x, x + y), names[x], (ATTACK,)) for x, y in values]
        series.append(Series(name, points, number))
    rows = [{"a": 1, ATTACK: ATTACK}]
    return Chart(ATTACK, kind, ATTACK, "y", series, names, (Limit(50.0, ATTACK),), rows=rows, note=ATTACK, **changed)


@needs_browser
def test_every_kind_of_chart_is_drawn_and_texts_stay_texts(browser: Browser, tmp_path: Path) -> None:
    kinds = list(ChartKind)
    figures = [chart_figure(chart(kind), f"chart-{kind}") for kind in kinds]
    body = joined(
        [chart_grid(figures), paragraph(ATTACK), items([ATTACK]), code(ATTACK), folded(ATTACK, ATTACK), ATTACK]
    )
    rows = [{ATTACK: ATTACK, "": 1}]
    tables = Section(ATTACK, joined([table(rows), transposed(rows)]))
    data = {ATTACK: [ATTACK, float("nan"), None, 1.5]}
    page = tmp_path / "page.html"
    page.write_text(html_page(ATTACK, [Section("Charts", body), tables], head=ATTACK, data=data))

    browser.open(page)

    assert browser.complaints == [] and browser.requests == [page.as_uri()]
    assert browser.evaluate(HITS) is None and browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.title") == ATTACK
    assert all(colours > 10 for colours in browser.evaluate(DRAWN))
    expected = []
    for kind in kinds:
        series = chart(kind).series
        expected.append(
            [[s.name, [[list(p.x) if isinstance(p.x, tuple) else p.x, p.y] for p in s.points]] for s in series]
        )
    assert browser.evaluate(POINTS) == expected
    for looks in browser.evaluate(LEGENDS):
        assert len(looks) == 2 and looks[0] != looks[1], "each series has its colour, whatever mark its first point has"
    found = browser.evaluate("JSON.parse(document.getElementById('page-data').textContent)")
    assert found == {ATTACK: [ATTACK, None, None, 1.5]}


@needs_browser
def test_policy_stops_what_is_not_the_page_s_own(browser: Browser, tmp_path: Path) -> None:
    """Even if a text came through unescaped."""
    page = tmp_path / "page.html"
    text = html_page("Title", [Section("Part", paragraph("HERE"))])
    page.write_text(text.replace("HERE", '<img src="http://192.0.2.1/x" onerror="hits=1"><script>hits = 1</script>'))
    browser.open(page)
    assert browser.evaluate(HITS) is None
    assert any("Content Security Policy" in complaint for complaint in browser.complaints)
    assert browser.requests == [page.as_uri(), "http://192.0.2.1/x"] and browser.refused == ["csp"]


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.recursive(st.text() | st.floats() | st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3)))
def test_data_in_a_page_are_json_and_end_no_script(data: Any) -> None:
    text = str(data_block("it", [data])).removeprefix('<script type="application/json" id="it">')
    text = text.removesuffix("</script>")
    assert "<" not in text and ">" not in text
    if "nan" not in repr(data) and "inf" not in repr(data):
        assert json.loads(text) == [data]


def test_another_library_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = tmp_path / "chart.js"
    monkeypatch.setattr(library, "_FILE", changed)
    with pytest.raises(DataError, match=r"can't be read \(No such file or directory\): take it from"):
        html_page("Title", [])
    changed.write_text("alert(1)")
    with pytest.raises(DataError, match="is not Chart.js 4.6.1 as it was pinned"):
        html_page("Title", [])
