"""Commands of the README and the pages it links to, as printed, in a copy of the checkout, with less data and shorter
measurements. The README's figures are those of the kept run."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from tests.checkout import copy_checkout, run_block, server_by_hand
from tests.small_outbrain import small_outbrain_spec

PAGES = {name: (ROOT / name).read_text() for name in ("README.md", "docs/step-by-step.md", "docs/gpu.md")}
README = PAGES["README.md"]
RUN = ROOT / "reports" / "cpu_2_cores_epyc"
CUTS = {
    "--displays 40000": "--displays 400",
    "scripts/preproc.sh": "scripts/preproc.sh --feature-spec small_spec.yaml",
    "scripts/train.sh": "scripts/train.sh --deep-hidden-units 64 64",
    "--batch-sizes 1 1024 4096": "--batch-sizes 1 64",
    "--concurrency 8 64": "--concurrency 8",
    "--warmup": "--retries 0",
    "--measurement-request-count 17": "--measurement-request-count 5",
}
QUICK_LOOK = "./runner/start_CPU.sh --quick"  # tests/runner/test_quick.py
MAIN_JOB, TESTS = "./runner/start_CPU.sh", "./scripts/test.sh"  # tests/scripts, tests/runner; this very run
# Before and after a GPU host's start script: tests/scripts has the installation, tests/runner the report.
AROUND = (
    "git clone <address of this repository> triton && cd triton",
    "./scripts/install.sh",
    "less runner_workspace/runs/latest/report.md",
)
LINK = re.compile(r"\]\(([^)#:]*)(?:#([\w-]*))?\)")


def _blocks(text: str) -> list[str]:
    """Commands of a text."""
    return re.findall(r"^```bash\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout without generated files, in a folder whose name shells and patterns read otherwise."""
    return copy_checkout(tmp_path / "it's-[my]-données")


def _environment() -> dict[str, str]:
    """Environment variables of a terminal in which this interpreter's environment is active."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TF_CPP_MIN_LOG_LEVEL": "2"}


def _on_another_host(block: str) -> bool:
    """True if the commands need a GPU or Docker."""
    return "scripts/docker/" in block or "start_NVIDIA" in block or "-docker.sh" in block


def test_step_by_step_commands_run(checkout: Path) -> None:
    setup, *blocks = [block for block in _blocks(PAGES["docs/step-by-step.md"]) if not _on_another_host(block)]
    (server,) = [block for block in blocks if "triton_server" in block]
    before, after = blocks[: blocks.index(server)], blocks[blocks.index(server) + 1 :]

    def run(block: str) -> None:
        for printed, cut in CUTS.items():
            block = block.replace(printed, cut)
        run_block(setup + block, checkout, _environment())

    (checkout / "small_spec.yaml").write_text(small_outbrain_spec(1000).to_yaml())
    for block in before:
        run(block)
    with server_by_hand(f"bash -c '{setup.strip()} && exec {server.strip()} \"$@\"' _", checkout, _environment()):
        for block in after:
            run(block)
    shared = checkout / "runner_workspace" / "shared_dir"
    with (shared / "correctness.csv").open(newline="") as file:
        assert [row["passed"] for row in csv.DictReader(file)] == ["True", "True"]
    for mode in ("offline", "online"):
        assert (shared / f"triton_performance_{mode}.csv").is_file()


def _for_other_hosts() -> list[str]:
    everything = [block for text in PAGES.values() for block in _blocks(text)]
    lines = {line for block in everything if _on_another_host(block) for line in block.splitlines()}
    return sorted(lines - set(AROUND))


def test_gpu_page_starts_with_four_commands() -> None:
    first, *_ = _blocks(PAGES["docs/gpu.md"])
    assert [line for line in first.splitlines() if not _on_another_host(line)] == list(AROUND)
    assert len(first.splitlines()) == 4


@pytest.mark.parametrize("command", _for_other_hosts())
def test_commands_for_other_hosts_report_missing_parts_at_once(command: str, tmp_path: Path) -> None:
    for tool in ("bash", "dirname"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: .* needs (an NVIDIA GPU|Docker) .*\n", done.stderr)


def test_readme_commands_are_all_tested() -> None:
    here = [line for block in _blocks(README) if not _on_another_host(block) for line in block.splitlines()]
    assert here == [QUICK_LOOK, MAIN_JOB, TESTS]
    assert all(os.access(ROOT / command.split()[0], os.X_OK) for command in here)
    assert [block for block in _blocks(PAGES["docs/gpu.md"]) if not _on_another_host(block)] == []


def test_readme_is_short_enough_to_be_read() -> None:
    assert 10_000 <= len(README.encode()) <= 12 * 1024


def test_commands_within_the_text_exist() -> None:
    text = "".join(PAGES.values())
    programs = re.findall(r"`((?:\./)?[\w/]+\.(?:sh|py)|python -m [\w.]+|python [\w/]+\.py)[^`]*`", text)
    assert len(set(programs)) > 8
    for program in set(programs) - {"replay.sh"}:  # which a run writes
        name = program.removeprefix("python -m ").removeprefix("python ").removeprefix("./")
        paths = [ROOT / name, ROOT / f"{name.replace('.', '/')}.py", ROOT / name.replace(".", "/") / "__main__.py"]
        assert any(path.is_file() for path in paths), program


def _anchors(text: str) -> set[str]:
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)", text, re.M)}


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]))
def test_links_have_existing_targets(page: Path) -> None:
    for link, anchor in LINK.findall(page.read_text()):
        target = page.parent / link if link else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text()), f"{link}#{anchor}"


@pytest.mark.parametrize("mode", ["offline", "online"])
def test_readme_tables_equal_the_kept_run(mode: str) -> None:
    """Latencies are microseconds in the CSV and milliseconds in the table."""
    pattern = rf"^\*\*{mode.capitalize()}: (.*) (.*)\*\*\n\n((?:\|.*\n)+)"
    tables = re.findall(pattern, README, flags=re.MULTILINE)
    assert len(tables) == 1
    configurations = yaml.safe_load((RUN / "task.yaml").read_text())["config"]["configurations"]
    ran = [(item["parameters"]["format"], item["parameters"]["precision"]) for item in configurations]
    for model_format, precision, table in tables:
        number = ran.index((model_format, precision)) + 1
        header, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        with (RUN / f"triton_performance_{mode}_summary.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["experiment"] == str(number)]
        assert len(lines) == len(rows)
        for cells, row in zip(lines, rows, strict=True):
            for title, cell in zip(header, cells, strict=True):
                value = float(row[title.removesuffix(" (ms)")]) / (1000 if title.endswith("(ms)") else 1)
                assert float(cell.rstrip(" †‡")) == pytest.approx(value, abs=0.006)
            assert ("†" in cells[2]) == (row["Settled"] == "no")
            assert ("‡" in cells[2]) == (row.get("Disturbed") == "yes")
