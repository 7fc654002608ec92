"""Script that repeats the commands of an experiment."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from urllib.parse import urlsplit

from deployment_toolkit.checkout import ROOT
from runner.config.experiment import TritonLaunchMode
from runner.experiment import Experiment
from runner.records import StageRecord

_HEAD = """#!/usr/bin/env bash
# Repeats experiment {number} of run {run}, command by command as they were run:
#   bash {name} [FOLDER]
# Models, dumps and results go to FOLDER (default: replay/ beside this script); this run's own results are not touched.
# It uses the checkout that it lies in, else the one that ran it; PROJECT=/path names another.
set -euo pipefail
here=$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)
out=$(realpath -m "${{1:-$here/replay}}")
mkdir -p "$out/results" "$out/shared" "$out/model_store"
cd "${{PROJECT:-$here}}"
while [ ! -e export_model.py ] && [ "$PWD" != / ]; do cd ..; done
[ -e export_model.py ] || cd {root}
export PYTHONPATH="$PWD${{PYTHONPATH:+:$PYTHONPATH}}" TF_CPP_MIN_LOG_LEVEL=2
"""

_OF_A_SECOND_PART = "--resume"  # which keeps what is measured; a replay measures all
_VARIABLE = """
: "${{{name}:?export it with the lines of headers that the server asks for, as 'Authorization: Basic …'}}"
"""

_SERVER = """
echo '== tritonserver'
rm -f "$out/server_is_ready"
{command} --log-path "$out/tritonserver.log" --ready-file "$out/server_is_ready" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
until [ -e "$out/server_is_ready" ]; do kill -0 "$server"; sleep 0.2; done
"""


def replay_script(experiment: Experiment, records: Sequence[StageRecord], name: str) -> str:
    """Text of the script."""
    number, run = experiment.number, experiment.workspace.run_name
    lines = [_HEAD.format(number=number, run=run, name=name, root=shlex.quote(str(ROOT)))]
    lines += [_VARIABLE.format(name=variable) for variable in _variables(experiment)]
    server_started = False
    for record in records:
        if not server_started and experiment.server is not None and _needs_server(record):
            lines.append(_SERVER.format(command=_quote(_server_command(experiment), experiment)))
            server_started = True
        for command in record.commands:
            argv = [part for part in command.argv if part != _OF_A_SECOND_PART]
            lines.append(f"\necho '== {record.name}: {command.name}'\n{_quote(argv, experiment)}\n")
    return "".join(lines)


def _variables(experiment: Experiment) -> list[str]:
    """Environment variables with headers, which the commands name and the script does not hold."""
    config = experiment.server_config
    return [*config.access.header_env, *config.client_variables]


def _needs_server(record: StageRecord) -> bool:
    return record.name not in ("export", "convert")


def _server_command(experiment: Experiment) -> list[str]:
    config, server = experiment.server_config, experiment.running_server
    argv: list[object] = [sys.executable, "-m", "deployment_toolkit.triton_server"]
    argv += ["--model-repository", experiment.folders.model_store]
    if experiment.server_config.mode is TritonLaunchMode.REMOTE:
        argv += ["--remote-http-url", server.http_url, "--remote-grpc-url", server.grpc_url, *config.client_options]
        return [str(part) for part in (*argv, "--models", *experiment.names.served)]
    urls = {"http": server.http_url, "grpc": server.grpc_url, "metrics": server.metrics_url}
    argv += [part for name, url in urls.items() for part in (f"--{name}-port", urlsplit(url).port)]
    argv += ["--load-method", config.load_method]
    if config.image is not None:
        argv += ["--image", config.image]
        if config.custom_operations is not None:
            argv += ["--custom-operations", config.custom_operations.resolve()]
    if experiment.devices:
        argv += ["--devices", *experiment.devices]
    return [str(part) for part in argv]


def _quote(argv: Sequence[str], experiment: Experiment) -> str:
    """One line of bash; folders of the run become folders under ``$out``, files of the project are relative to its
    root."""
    folders = experiment.folders
    moved = {str(folders.results): "results", str(folders.shared): "shared"}
    if experiment.server_config.mode is not TritonLaunchMode.REMOTE:  # a remote server's repository can't be moved
        moved[str(folders.model_store)] = "model_store"
    parts = []
    for part in argv:
        prefix = next((old for old in moved if part == old or part.startswith(f"{old}/")), None)
        if prefix is None:
            parts.append(shlex.quote(part.removeprefix(f"{ROOT}/")))
        else:
            rest = part.removeprefix(prefix)
            parts.append(f'"$out"/{moved[prefix]}{shlex.quote(rest) if rest else ""}')
    return " ".join(parts)
