"""Rollouts under load: rolling restart, canary and scale-down of real servers behind a real Envoy, with the Helm
chart's times, and the autoscaler's decisions on the servers' own queue times; counts lost and wrong requests.

Run from the repository's root: ``python -m benchmarks.rollouts --model PATH`` with a model that the C++ host runs;
``scripts/install_cluster_tools.sh`` installs Helm and Envoy. The kubelet, the gateway's controller and the autoscaler
are simulated. The exit code is 1 if a request was lost or wrong with the chart's times, whatever they are.
"""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.rollouts.autoscaling import autoscale
from benchmarks.rollouts.chart import HelmChart, PodTemplate, pod_template
from benchmarks.rollouts.episodes import RolloutEpisode, canary, rolling_restart, scale_down, without_pre_stop
from benchmarks.rollouts.page import page
from benchmarks.rollouts.scaling_loop import ScalingStep
from benchmarks.rollouts.stage import SERVICES, RolloutSubject, prepare, rollout_stage
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cpp_host.library import build_library
from deployment_toolkit.errors import UsageError
from deployment_toolkit.files.atomic import write_text
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser, option, run_entry_point
from deployment_toolkit.results.tables import write_csv
from runner.serving import read_system_info

EPISODES_FILE, STEPS_FILE, PAGE_FILE = "rollouts.csv", "autoscaler.csv", "rollouts.md"
PARTS = ("rollouts", "autoscaler")


@dataclass(frozen=True)
class RolloutsOptions:
    """Options of the command."""

    model: Path = option("a SavedModel, an ONNX file or an OpenVINO folder with one output")
    tools: Path = option("environment with Helm and Envoy", ROOT / ".venv-cluster-tools")
    values: Path | None = option("file of the chart's values, such as deploy/kubernetes/values-cpu.yaml", None)
    settings: list[str] = option("further values of the chart, KEY=VALUE as for helm's --set", [], nargs="+", type=str)
    parts: list[str] = option("only these", list(PARTS), choices=list(PARTS), nargs="+")
    clients: int = option("clients per protocol", 8)
    requests: int = option("least requests per protocol in each episode", 5000)
    speed: float = option("how much faster than a cluster's the autoscaler's clock runs", 5.0)
    output_dir: Path = option("folder of the results", Path("rollouts"))

    def __post_init__(self) -> None:
        for name in ("helm", "envoy"):
            if not (self.tools / "bin" / name).is_file():
                raise UsageError(f"{self.tools} has no {name}: run scripts/install_cluster_tools.sh, or give --tools")
        if min(self.clients, self.requests) < 1 or self.speed <= 0:
            raise UsageError("--clients and --requests must be at least 1, --speed more than 0")
        if self.values is not None and not self.values.is_file():
            raise UsageError(f"--values {self.values}: there is no such file")
        wrong = next((text for text in self.settings if "=" not in text), None)
        if wrong is not None:
            raise UsageError(f"--settings {wrong}: write KEY=VALUE, for example drain.preStopSeconds=20")


def main(argv: list[str]) -> int:
    parser = make_parser(__doc__ or "")
    add_dataclass(parser, RolloutsOptions)
    options = from_args(RolloutsOptions, parser.parse_args(argv))
    options.output_dir.mkdir(parents=True, exist_ok=True)
    build_library()
    begun = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
    made_by = shlex.join(["python", "-m", "benchmarks.rollouts", *argv])
    chart = HelmChart(options.tools / "bin" / "helm", options.settings, options.values)
    episodes: list[RolloutEpisode] = []
    steps: list[ScalingStep] = []
    with tempfile.TemporaryDirectory(prefix="rollouts_") as folder:
        if "rollouts" in options.parts:
            episodes += _rollouts(options, prepare(chart, options.model, Path(folder)))
            write_csv(options.output_dir / EPISODES_FILE, [asdict(one) for one in episodes])
        if "autoscaler" in options.parts:
            envoy = options.tools / "bin" / "envoy"
            episode, steps = autoscale(chart, envoy, Path(folder) / "scaling", options.speed, options.requests)
            episodes.append(episode)
            write_csv(options.output_dir / STEPS_FILE, [asdict(one) for one in steps])
            write_csv(options.output_dir / EPISODES_FILE, [asdict(one) for one in episodes])
    template = pod_template(chart.render(), SERVICES[0])
    text = page(episodes, steps, template, options.speed, read_system_info().summary, begun, made_by)
    write_text(options.output_dir / PAGE_FILE, text)
    print(text)
    return int(has_failed(episodes, template))


def has_failed(episodes: Sequence[RolloutEpisode], template: PodTemplate) -> bool:
    """True if a request was lost or wrong with the preStop of the chart's own template."""
    return any(one.lost + one.wrong for one in episodes if one.pre_stop_s == template.pre_stop_s)


def _rollouts(options: RolloutsOptions, subject: RolloutSubject) -> list[RolloutEpisode]:
    """Rolling restart, canary, scale-down, and the rolling restart once more without preStop."""
    stable, new = SERVICES
    surge = subject.template.surge
    envoy = options.tools / "bin" / "envoy"
    with rollout_stage(envoy, subject, options.clients, options.requests) as stage:
        rolling_restart(stage, stable, subject.repository, surge)
        canary(stage, (stable, new), subject.next_repository, subject.gate.check, subject.routes, surge)
        stage.fleet.start(stable, subject.next_repository)
        scale_down(stage, stable, 2)
        without_pre_stop(stage, stable, subject.next_repository, surge)
        return stage.episodes


if __name__ == "__main__":
    run_entry_point(main)
