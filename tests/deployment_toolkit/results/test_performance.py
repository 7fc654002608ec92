from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from deployment_toolkit.core import Array
from deployment_toolkit.errors import DataError
from deployment_toolkit.results.performance import (
    DISTURBED_MARK,
    DISTURBED_NOTE,
    LATENCY_PARTS,
    LATENCY_STATISTICS,
    UNSETTLED_MARK,
    PerformanceRow,
    headline,
    markdown_table,
    performance_markdown,
    read_performance,
    write_performance,
)
from deployment_toolkit.results.plots import (
    LATENCY_VS_BATCH,
    LATENCY_VS_CONCURRENCY,
    THROUGHPUT_VS_BATCH,
    offline_plots,
    online_plots,
)

UNWATCHED: dict[str, Any] = dict.fromkeys(
    ("Other Cores", "Steal Cores", "CPU Speed Before", "CPU Speed After", "Disturbed")
)
WATCHED = {
    "Other Cores": 0.75,
    "Steal Cores": 0.01,
    "CPU Speed Before": 7.5,
    "CPU Speed After": 7.63,
    "Disturbed": True,
}
PROVENANCE = "a host with 2 cores, 2026-01-02 03:04 UTC"


def row(batch: int, concurrency: int = 1, **changes: Any) -> dict[str, Any]:
    latencies = {name: 1000.0 * (index + 1) for index, name in enumerate((*LATENCY_PARTS, *LATENCY_STATISTICS))}
    return {
        "Batch": batch,
        "Concurrency": concurrency,
        "Inferences/Second": 517.0 * batch,
        **latencies,
        "Settled": True,
        "Refused": 0.0,
        **UNWATCHED,
        "Window Rates": (),
        "Window Latencies": (),
        **changes,
    }


def test_performance_csv_has_sorted_rows(tmp_path: Path) -> None:
    rows: list[PerformanceRow] = [
        row(2, 8, Settled=False, Refused=31.5),
        row(2, 1) | {"Window Rates": (1030.5, 1034.0), "Window Latencies": (11990.0, 12010.25)},
        row(1, 8, **WATCHED) | {"p50 latency": 1234567.0},
    ]
    path = tmp_path / "latency.csv"
    write_performance(path, rows)
    assert read_performance(path) == [rows[2], rows[1], rows[0]]
    assert path.read_text().splitlines() == [
        "Batch,Concurrency,Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,"
        "Server Compute Infer,Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,"
        "avg latency,Settled,Refused,Other Cores,Steal Cores,CPU Speed Before,CPU Speed After,Disturbed,"
        "Window Rates,Window Latencies",
        "1,8,517,1000,2000,3000,4000,5000,6000,7000,1234567,9000,10000,11000,12000,yes,0,0.75,0.01,7.5,7.63,yes,,",
        "2,1,1034,1000,2000,3000,4000,5000,6000,7000,8000,9000,10000,11000,12000,yes,0,,,,,,1030.5 1034,11990 12010.25",
        "2,8,1034,1000,2000,3000,4000,5000,6000,7000,8000,9000,10000,11000,12000,no,31.5,,,,,,,",
    ]


def test_performance_csv_of_other_tools_is_read_and_damaged_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latency.csv"
    write_performance(path, [row(1)])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rsplit(",", 9)[0] for line in lines))
    assert read_performance(path) == [row(1)]
    path.write_text(f"{lines[0]}\n{lines[1].replace('1,1,', '1,fast,', 1)}\n")
    with pytest.raises(DataError, match=r"latency.csv, line 2 is not a performance result .*fast"):
        read_performance(path)
    path.write_text(f"{lines[0]}\n1,1,fast\n")
    with pytest.raises(DataError, match=r"latency.csv:2: 3 cells under 24 titles: make the file again"):
        read_performance(path)
    with pytest.raises(DataError, match="No such file"):
        read_performance(tmp_path / "missing.csv")


def test_performance_table_shows_what_was_refused_beside_what_was_answered() -> None:
    assert "Refused" not in performance_markdown([row(1)])
    header, _, first, second = performance_markdown([row(1), row(2, Refused=31.5)]).splitlines()
    names = [name.strip() for name in header.split("|")]
    assert names[names.index("Inferences/Second") + 1] == "Refused"
    refused = [line.split("|")[names.index("Refused")].strip() for line in (first, second)]
    assert refused == ["0.00", "31.50"]


def test_performance_table_shows_milliseconds_and_unsettled_rows() -> None:
    text = performance_markdown([row(16384, Settled=False) | {"Client Send": 26.0}, row(1)])
    header, rule, first, second, *_ = text.splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "Batch", "Concurrency", "Inferences/Second", "Client Send (ms)", "Network+Server Send/Recv (ms)",
        "Server Queue (ms)", "Server Compute Input (ms)", "Server Compute Infer (ms)", "Server Compute Output (ms)",
        "Client Recv (ms)", "p50 latency (ms)", "p90 latency (ms)", "p95 latency (ms)", "p99 latency (ms)",
        "avg latency (ms)",
    ]  # fmt: skip
    assert set(rule) == set("|-:") and len({len(line) for line in (header, rule, first, second)}) == 1
    assert [cell.strip() for cell in first.strip("|").split("|")][:5] == ["1", "1", "517.00", "1.00", "2.00"]
    cells = [cell.strip() for cell in second.strip("|").split("|")]
    assert cells[2:4] == [f"8470528.00 {UNSETTLED_MARK}", "0.03"]
    assert text.count(UNSETTLED_MARK) == 2 and "never settled" in text
    assert "never settled" not in performance_markdown([row(1)])


def test_disturbed_rows_are_marked_and_explained_in_tables_and_headlines() -> None:
    rows = [row(1), row(4096, 1, Settled=False, **WATCHED)]
    text = performance_markdown(rows)
    header, rule, first, second, *_ = text.splitlines()
    assert "Cores" not in header and rule.split("|")[3].endswith(":"), "marked numbers are numbers"
    marked = [line.strip("|").split("|")[2].strip() for line in (first, second)]
    assert marked == ["517.00", f"2117632.00 {UNSETTLED_MARK}{DISTURBED_MARK}"]
    assert DISTURBED_NOTE in text and DISTURBED_NOTE not in performance_markdown([row(1)])
    shown = headline(rows, [row(1, 8, **WATCHED)])
    assert shown["offline, batch 1: p99 (ms)"] == "11.00"
    assert shown["offline peak (inferences/s)"] == f"2,117,632 {DISTURBED_MARK}"
    assert shown["online peak (inferences/s)"] == f"517 {DISTURBED_MARK}"


def test_markdown_table_aligns_numbers_and_escapes_bars() -> None:
    rows = [{"stage": "a|b", "seconds": 1.5, "note": None}, {"stage": "convert", "seconds": 10, "note": "late"}]
    assert markdown_table(rows).splitlines() == [
        "| stage   | seconds | note |",
        "|---------|--------:|------|",
        "| a\\|b    |     1.5 |      |",
        "| convert |      10 | late |",
    ]
    assert markdown_table([]) == ""


def pixels(png: bytes) -> Array:
    return np.asarray(imread(io.BytesIO(png), format="png"))


def has_colour(picture: Array, red: int, green: int, blue: int) -> bool:
    wanted = np.array([red, green, blue]) / 255
    return bool((np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.01).any())


def test_offline_plots_have_a_panel_per_experiment_and_mark_unsettled_and_disturbed() -> None:
    settled = {"one": [row(1), row(512), row(1024)]}
    two = {**settled, "two": [row(1), row(512, Settled=False), row(1024, 1, **WATCHED)]}
    names = {THROUGHPUT_VS_BATCH, LATENCY_VS_BATCH}
    one_picture, two_pictures = offline_plots(settled, PROVENANCE), offline_plots(two, PROVENANCE)
    assert one_picture.keys() == two_pictures.keys() == names
    for name in names:
        for mark in ((0xCC, 0, 0), (0xFF, 0x88, 0)):
            assert not has_colour(pixels(one_picture[name]), *mark)
            assert has_colour(pixels(two_pictures[name]), *mark)
    width = pixels(one_picture[LATENCY_VS_BATCH]).shape[1]
    assert pixels(two_pictures[LATENCY_VS_BATCH]).shape[1] == 2 * width


def test_online_plot_has_a_panel_per_batch_size() -> None:
    sweep = [row(32, concurrency) for concurrency in (8, 16)]
    (one,) = online_plots({"one": sweep}, PROVENANCE).values()
    (two,) = online_plots({"one": [*sweep, row(64, 8)]}, PROVENANCE).values()
    assert online_plots({"one": sweep}, PROVENANCE).keys() == {LATENCY_VS_CONCURRENCY}
    assert pixels(two).shape[1] == 2 * pixels(one).shape[1]
    assert has_colour(pixels(one), 0xEE, 0x66, 0x77)  # the bars of Server Compute Infer
