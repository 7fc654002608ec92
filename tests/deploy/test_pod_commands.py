"""What the chart's containers run: the gate's commands by this project's own command lines, the proxy's configuration
by HAProxy."""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, Prediction
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.proxy.running import find_haproxy
from deployment_toolkit.rows.dump import DumpOptions, DumpWriter
from tests.cluster_tools import needs_cluster_tools, one, render
from tests.deploy.charts import TOOLS_IMAGE, container, sets
from tests.proxy_program import needs_haproxy
from tests.test_dump_dataloader import write_dump

pytestmark = needs_cluster_tools
ROWS = "/mnt/model/gate/reference"


def gate_commands(*options: str) -> dict[str, list[str]]:
    """Program and arguments of each container of the gate, by its name."""
    pod = one(render(*sets(correctness__image=TOOLS_IMAGE), *options), "Pod")["spec"]
    commands = {name: container(pod, name)["command"] for name in ("grpc", "http", "compare")}
    assert all(command[0] == "python" for command in commands.values())
    return {name: command[1:] for name, command in commands.items()}


def run(command: list[str], rows: Path, work: Path) -> None:
    """Runs a command of the gate with its folders elsewhere, and its plug-ins in this checkout."""
    places = {ROWS: str(rows), "/work": str(work)}
    program, *options = command
    for old, new in places.items():
        options = [option.replace(old, new) for option in options]
    options = [
        f"{flag}={ROOT / value}" if value.endswith(".py") else option
        for option in options
        for flag, _, value in [option.partition("=")]
    ]
    importlib.import_module(program.removesuffix(".py")).main(options)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_gate_sends_the_kept_rows(tmp_path: Path, protocol: str) -> None:
    """Without a server; the rows are read before."""
    command = [option.replace("//wide-deep:", "//127.0.0.1:1") for option in gate_commands()[protocol]]
    with pytest.raises(DeploymentError, match="there is no dump at"):
        run(command, tmp_path / "none", tmp_path)
    write_dump(tmp_path / "rows", inputs=True)
    with pytest.raises(DeploymentError, match=r"127.0.0.1:1800"):
        run(command, tmp_path / "rows", tmp_path)


def test_gate_compares_both_protocols_by_its_limits(tmp_path: Path) -> None:
    batch = write_dump(tmp_path / "rows", inputs=True)
    for name, probability in (("grpc", 0.5), ("http", 0.50004)):
        with DumpWriter(DumpOptions(tmp_path / name, dump_labels=True)) as dump:
            dump.write(Prediction(Batch(batch.ids, {}, batch.y), {"wide_deep_model": batch.y["clicked"] * probability}))
    undefined = ["--set", "correctness.maxMetricLoss=null"]  # of seven rows
    run(gate_commands(*undefined)["compare"], tmp_path / "rows", tmp_path)
    with pytest.raises(DeploymentError, match="^http: "):
        run(gate_commands(*undefined, *sets(correctness__rtol="0"))["compare"], tmp_path / "rows", tmp_path)
    with pytest.raises(DeploymentError, match="the limit on map12 can't be checked"):
        run(gate_commands()["compare"], tmp_path / "rows", tmp_path)


@needs_haproxy
def test_proxy_configuration_is_valid(tmp_path: Path) -> None:
    program = find_haproxy()
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(one(render(), "ConfigMap")["data"]["haproxy.cfg"])
    done = subprocess.run([program, "-c", "-f", configuration], capture_output=True, text=True)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr
