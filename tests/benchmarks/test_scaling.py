from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.kept_servers import CORES, REPORTS, MeasuredServer, kept_servers
from benchmarks.scaling import ScalingOptions, balancer_ms, main, servers_for, tables
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, UsageError

PAGE = ROOT / "docs" / "scaling.md"
NUMBER = re.compile(r"(?<![\w.,])\$?\d[\d,]*(?:\.\d+)?(?!\w)(?<!,)")
# Numbers of the page's text that no table has.
ELSEWHERE = {
    *("231", "7,407", "67", "0.65", "1.3", "87"),  # computed
    *("3,079", "0.60", "220,045"),  # kept measurements: a request's bytes, the Xeon's engine
    *("2,496", "9,825", "3,858"),  # reports/cpu_2_cores_epyc_before
    *("4.8", "96", "30"),  # docs/monitoring.md, the int8 model's file, the chart's policy
    *("64", "99", "128", "248", "1,024", "2,048"),  # how it was measured
    *("0.6", "$0.04", "$3.5", "7"),  # options; a number of the list
    "65,313",  # not kept, as the page says
}
FAST = MeasuredServer("a host", "int8", 32, 100_000.0, 20.0, 7503.0, 2, "a.csv")


def test_page_has_the_tables_of_the_kept_measurements() -> None:
    assert tables(ScalingOptions()).strip() in PAGE.read_text(), (
        "python -m benchmarks.scaling --update-page docs/scaling.md writes them anew; then read the text beside them"
    )


def test_prose_has_numbers_of_the_tables() -> None:
    """Each number in the text is one of the tables, or one that is known to come from elsewhere."""
    tables_begin, tables_end = (f"<!-- scaling: {what} -->" for what in ("start", "end"))
    before, rest = PAGE.read_text().split(tables_begin)
    prose = before + rest.split(tables_end)[1]
    words = re.sub(r"`[^`]*`|\([^)]*\.md[^)]*\)", "", prose)  # without commands and links
    printed = set(NUMBER.findall(tables(ScalingOptions())))
    strange = [number for number in NUMBER.findall(words) if number not in printed | ELSEWHERE]
    assert not strange, "these numbers of the text are in no table: correct them, or name their source in ELSEWHERE"


@pytest.mark.parametrize(("rate", "load", "number"), [(1e6, 0.6, 17), (1e6, 1.0, 10), (100.0, 0.6, 2)])
def test_servers_are_rounded_up_and_two_at_least(rate: float, load: float, number: int) -> None:
    assert servers_for(rate, FAST, load) == number


def test_table_follows_from_rates_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--rows-per-second", "500000", "--load", "0.5", "--core-hour", "1"])
    printed = capsys.readouterr().out
    assert "**500,000 inferences a second, servers loaded to 50%**" in printed
    server = next(server for server in kept_servers() if (server.rows, server.model) == (32, "int8, 29 tensors"))
    assert server.request_bytes is not None
    number = math.ceil(500_000 / (0.5 * server.rows_per_s))
    balancer = 500_000 / 32 * balancer_ms(32, ScalingOptions()) / 1000
    line = next(line for line in printed.splitlines() if re.search(r"int8, 29 tensors +\| +32 ", line))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[5:8] == [str(number), f"{2.5 * number:g}", "15,625"], "with half a core for each pod's proxy"
    assert float(cells[8]) == pytest.approx(15_625 * server.request_bytes * 8 / 1e9, abs=0.05)
    assert float(cells[11]) == pytest.approx(2.5 * number + balancer, abs=0.01)


def test_missing_measurement_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"peers\.csv"):
        kept_servers(tmp_path)
    shutil.copytree(REPORTS / "cpu_2_cores_peers", tmp_path / "cpu_2_cores_peers")
    path = tmp_path / "cpu_2_cores_peers" / "peers.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",1024," not in line))
    with pytest.raises(DataError, match="no int8 in requests of 1024 rows and 29 tensors: keep its report"):
        kept_servers(tmp_path)


def test_assumed_values_of_the_chart_are_the_charts() -> None:
    options, chart = ScalingOptions(), yaml.safe_load((ROOT / "deploy" / "kubernetes" / "values.yaml").read_text())
    assert chart["resources"]["cpu"] == CORES
    assert chart["proxy"]["resources"]["cpu"] == f"{1000 * options.proxy_cores:g}m"
    assert chart["monitoring"]["interval"] == f"{options.scrape_s:g}s"
    assert chart["autoscaling"]["prometheus"]["window"] == f"{options.window_s / 60:g}m"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"load": 0.0}, "above 0"),
        ({"load": 1.1}, "above 0"),
        ({"rows_per_second": 0.0}, "above 0"),
        ({"pull_mb_s": 0.0}, "above 0"),
        ({"gpu_hour": 0.0}, "above 0"),
        ({"window_s": -1.0}, "0 or more"),
        ({"probe_s": math.nan}, "0 or more"),
    ],
)
def test_impossible_demands_are_refused(options: dict[str, float], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        ScalingOptions(**options)  # type: ignore[arg-type]
