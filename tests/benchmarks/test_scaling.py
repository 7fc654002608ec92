from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import pytest

from benchmarks.kept_servers import REPORTS, MeasuredServer, kept_servers
from benchmarks.scaling import ScalingOptions, balancer_ms, main, servers_for, tables
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, UsageError

PAGE = ROOT / "docs" / "scaling.md"
FAST = MeasuredServer("a host", "int8", 32, 100_000.0, 20.0, 7503.0, 2, "a.csv")


def test_page_has_the_tables_of_the_kept_measurements() -> None:
    assert tables(ScalingOptions()).strip() in PAGE.read_text(), (
        "python -m benchmarks.scaling --update-page docs/scaling.md writes them anew; then read the text beside them"
    )


def test_prose_has_numbers_of_the_tables() -> None:
    """Numbers in the text that come from the tables are still in them."""
    text = PAGE.read_text()
    printed = tables(ScalingOptions())
    prose = text.replace(printed.strip(), "")
    numbers = ("78,582", "5,389", "186", "10.2", "117.2", "24.6", "97", "3.2", "1.9", "120", "372", "194", "74", "13")
    for number in (*numbers, "144", "115", "$7.00", "6,836,623", "13,561,080", "596,602", "1,553,211"):
        pattern = rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)"
        assert re.search(pattern, prose) and re.search(pattern, printed), number


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
    assert cells[5:8] == [str(number), str(2 * number), "15,625"]
    assert float(cells[8]) == pytest.approx(15_625 * server.request_bytes * 8 / 1e9, abs=0.05)
    assert float(cells[11]) == pytest.approx(2 * number + balancer, abs=0.01)


def test_missing_measurement_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"peers\.csv"):
        kept_servers(tmp_path)
    shutil.copytree(REPORTS / "cpu_2_cores_peers", tmp_path / "cpu_2_cores_peers")
    path = tmp_path / "cpu_2_cores_peers" / "peers.csv"
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",1024," not in line))
    with pytest.raises(DataError, match="no int8 in requests of 1024 rows and 29 tensors: keep its report"):
        kept_servers(tmp_path)


@pytest.mark.parametrize(
    "options", [{"load": 0.0}, {"load": 1.1}, {"rows_per_second": 0.0}, {"pull_mb_s": 0.0}, {"core_hour": 0.0}]
)
def test_impossible_demands_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        ScalingOptions(**options)  # type: ignore[arg-type]
