"""Compares this deployment with alternative servers: the same model files, rows and concurrency, each server at its
documented best settings, in one run on this machine.

Run ``python -m benchmarks.peers`` after ``./runner/start_CPU.sh``, which makes data and checkpoint.
"""

from __future__ import annotations

import itertools
import logging
import os
import platform
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.peers.campaign import Campaign, CampaignOutcome, Plan
from benchmarks.peers.deployment import PeerDeployment
from benchmarks.peers.environments import pinned_version
from benchmarks.peers.load import find_wrk
from benchmarks.peers.peer import PEERS, Peer
from benchmarks.peers.pictures import comparison_png
from benchmarks.peers.readme import put_between_markers
from benchmarks.peers.results import OURS, PACKED, Cell, Run, values_of
from benchmarks.peers.tables import PeerComparison, SystemNote, comparison_markdown
from benchmarks.peers.wire import KSERVE_BINARY, KSERVE_PACKED_TITLE
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Host
from deployment_toolkit.errors import PerformanceError, UsageError, require_options_at_least
from deployment_toolkit.files.atomic import replace_when_complete, write_text
from deployment_toolkit.machine import usable_cores
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.packages import installed_versions
from deployment_toolkit.results.tables import read_records, write_csv
from deployment_toolkit.triton_performance_runner.program import program_version

logger = logging.getLogger("peers")

_CSV = "peers.csv"
_FP32 = "fp32"
_PACKAGES = ("tritonclient", "onnxruntime", "openvino", "tensorflow-cpu")
_OWN_RELEASE = "tritonserver 2.51.0"
_README = ROOT / "benchmarks" / "README.md"


@dataclass(frozen=True)
class PeersOptions:
    """Options of the comparison."""

    models: list[str] = option(
        "model files as FORMAT:PRECISION=PATH; without =PATH the model is made once, as the runner makes it, and kept "
        "in the workspace",
        ["onnx:fp32", "openvino:int8"],
    )
    peers: list[str] = option("servers to compare with", [peer.name for peer in PEERS], choices=[p.name for p in PEERS])
    config_path: Path = option(
        "the runner's configuration, whose experiments say how this deployment serves a model",
        ROOT / "runner" / "config_CPU.yaml",
    )
    host: Host = option(
        "host of this deployment's models: cpp, in the server's process, or python; both run ONNX files on "
        "onnxruntime, as the peers do",
        Host.CPP,
        choices=[Host.CPP, Host.PYTHON],
    )
    workspace_path: Path = option(
        "checkpoints, as the runner's workspace; models and the peers' environments are kept there",
        ROOT / "runner_workspace",
    )
    output_dir: Path = option("folder for peers.csv, peers.md and a picture per model", Path("peers"))
    resume: bool = option("keep the measurements in the output folder, and measure only what is missing", False)
    rows: list[int] = option("rows per request", [1, 32, 1024])
    concurrency: list[int] = option("requests in flight", [1, 8, 64])
    passes: int = option("measurements of each cell; the medians count", 2)
    seconds: int = option(
        "length of a measurement; where all requests in flight need long, it is longer, at most 40", 4
    )
    warmup_seconds: int = option("unrecorded requests before it", 1)
    fp32_tolerance: float = option("largest difference of a probability from the framework's, fp32 models", 1e-5)
    tolerance: float = option("the same for the other models, whose loss of quality the runner's gate judges", 0.1)
    wrk: str = option("the load generator's program", "wrk")
    perf_analyzer: bool = option("measure this deployment by perf_analyzer too", True)
    update_readme: bool = option("put the result into benchmarks/README.md", False)

    def __post_init__(self) -> None:
        require_options_at_least(self, ("passes", "seconds", "warmup_seconds"), 1)
        for name in ("models", "rows", "concurrency"):
            if not getattr(self, name):
                raise UsageError(f"--{name} needs at least one value")

    @property
    def cells(self) -> list[Cell]:
        """Cells of every number of rows with every concurrency."""
        return [Cell(*pair) for pair in itertools.product(sorted(set(self.rows)), sorted(set(self.concurrency)))]

    def tolerance_of(self, model: str) -> float:
        """Allowed difference of a model named FORMAT:PRECISION."""
        return self.fp32_tolerance if model.endswith(f":{_FP32}") else self.tolerance


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, PeersOptions)
    options = from_args(PeersOptions, parser.parse_args(argv))
    wrk = find_wrk(options.wrk)
    peers = [peer for peer in PEERS if peer.name in options.peers]
    provenance = dict(_provenance(argv))
    with tempfile.TemporaryDirectory(prefix="peers_") as name:
        folder = Path(name)
        asked = list(_deployments(options))
        skipped = {item.name: item.missing_here for item in asked if item.missing_here}
        deployments = [item for item in asked if item.name not in skipped]
        for model, reason in skipped.items():
            logger.warning("%s is skipped: %s", model, reason)
        if not deployments:
            raise UsageError(f"--models: this host runs none of them: {'; '.join(dict.fromkeys(skipped.values()))}")
        for deployment in deployments:
            deployment.make_model(folder)
        sample = deployments[0].sample(folder)
        plan = Plan(
            deployments,
            peers,
            options.cells,
            options.passes,
            options.seconds,
            options.warmup_seconds,
            {deployment.name: options.tolerance_of(deployment.name) for deployment in deployments},
            options.perf_analyzer,
        )
        environments = options.workspace_path / "peers_environments"
        done = read_records(options.output_dir / _CSV, Run) if options.resume else []
        campaign = Campaign(plan, sample, wrk, folder, environments.resolve(), done)

        def keep(outcome: CampaignOutcome) -> None:
            _write(options, _comparison(provenance, deployments, peers, outcome, skipped))

        outcome = campaign.run(keep)
    text = _write(options, _comparison(provenance, deployments, peers, outcome, skipped))
    print(text)
    if not outcome.runs:
        raise PerformanceError("nothing could be measured; the reasons are above")
    if options.update_readme:
        put_between_markers(_README, text)
    return 0


def _deployments(options: PeersOptions) -> Iterator[PeerDeployment]:
    for text in options.models:
        name, _, path = text.partition("=")
        yield PeerDeployment(
            options.config_path, name, Path(path) if path else None, options.workspace_path, options.host
        )


def _provenance(argv: list[str]) -> Iterator[tuple[str, str]]:
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), ":")
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "command", f"`python -m benchmarks.peers {shlex.join(argv)}`".replace(" `", "`")
    yield "date", datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield (
        "machine",
        f"{cpu.split(':', 1)[1].strip()}, {usable_cores()} cores, {memory_gib:.0f} GiB, "
        f"{platform.platform()}; client and servers share it",
    )
    versions = {"Python": platform.python_version(), **installed_versions(_PACKAGES), **program_version()}
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())


def _comparison(
    provenance: dict[str, str],
    deployments: list[PeerDeployment],
    peers: list[Peer],
    outcome: CampaignOutcome,
    skipped: dict[str, str],
) -> PeerComparison:
    settings = "; ".join(f"{item.name}: {item.settings}" for item in deployments)
    ours = [
        SystemNote(OURS, _OWN_RELEASE, settings, KSERVE_BINARY.title),
        SystemNote(PACKED, _OWN_RELEASE, "the same, with packed inputs", KSERVE_PACKED_TITLE),
    ]
    notes = [
        SystemNote(peer.title, pinned_version(peer.requirements, peer.package), peer.settings, peer.wire.title)
        for peer in peers
    ]
    models = {item.name: f"{item.name.replace(':', ' ')} ({item.model.name})" for item in deployments}
    return PeerComparison(provenance, models, ours + notes, outcome.runs, outcome.failures, outcome.perf, skipped)


def _write(options: PeersOptions, comparison: PeerComparison) -> str:
    """Writes all measurements so far to the output folder; returns the text of the report."""
    text = comparison_markdown(comparison)
    folder = options.output_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "peers.md", text)
    if comparison.runs:
        write_csv(folder / _CSV, [asdict(run) for run in comparison.runs])
    for model, description in comparison.models.items():
        values = values_of(comparison.runs, model)
        if values:
            titles = [note.title for note in comparison.notes if note.title in values]
            where = f"{comparison.provenance['machine'].split(',')[0]}, {comparison.provenance['date']}"
            picture = comparison_png(values, titles, description, where)
            with replace_when_complete(folder / f"peers_{model.replace(':', '_')}.png") as beside:
                beside.write_bytes(picture)
    return text


if __name__ == "__main__":
    run_entry_point(main)
