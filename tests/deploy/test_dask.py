"""deploy/dask: the commands of the Kubernetes object and of the SLURM job start a cluster that preprocesses."""

from __future__ import annotations

import re
import shlex
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.cluster import ClusterOptions
from deployment_toolkit.files import fingerprint
from deployment_toolkit.options.params import add_dataclass, from_args, make_parser
from deployment_toolkit.process import Child, environment, run
from tests.cluster_tools import needs_cluster_tools
from tests.deploy.test_objects import NEWEST, OLDEST, problems
from widedeep.preprocessing.dataset import PreprocessingOptions, preprocess
from widedeep.synthetic import SyntheticOptions, generate

FOLDER = ROOT / "deploy" / "dask"
CLUSTER: dict[str, Any] = yaml.safe_load((FOLDER / "cluster.yaml").read_text())
DEADLINE_S = 120.0


def _container(part: str) -> dict[str, Any]:
    (container,) = CLUSTER["spec"][part]["spec"]["containers"]
    return dict(container)


def test_scheduler_and_worker_of_the_kubernetes_object_make_the_files_of_one_process(tmp_path: Path) -> None:
    generate(SyntheticOptions(tmp_path / "raw", 60, seed=3))
    file, log = tmp_path / "scheduler.json", tmp_path / "log"
    here = ["--scheduler-file", str(file), "--host", "127.0.0.1"]
    with ExitStack() as stack:
        scheduler = _start(stack, [*_container("scheduler")["args"], *here, "--port", "0", "--no-dashboard"], log)
        named = {"$(DASK_WORKER_NAME)": "wide-deep-0", "/tmp": str(tmp_path)}
        args = [named.get(arg, arg) for arg in _container("worker")["args"]]
        _start(stack, [*args, *here], log)  # waits for the file
        preprocess(PreprocessingOptions(tmp_path / "raw", tmp_path / "alone"))
        deadline = time.monotonic() + DEADLINE_S
        while not file.exists():
            assert scheduler.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        options: list[str | Path] = [
            "--raw-dir",
            tmp_path / "raw",
            "--output-dir",
            tmp_path / "cluster",
            "--scheduler-file",
            file,
        ]
        run([ROOT / "scripts" / "preproc.sh", *options], log_path=tmp_path / "preproc.log")
    assert fingerprint.of_path(tmp_path / "cluster") == fingerprint.of_path(tmp_path / "alone")


def test_scheduler_and_workers_have_one_image_and_the_same_data() -> None:
    scheduler, worker = _container("scheduler"), _container("worker")
    assert scheduler["image"] == worker["image"]
    (checkout,) = re.findall(r"WORKDIR (\S+)", (ROOT / "Dockerfile").read_text())
    assert scheduler["env"] == worker["env"] == [{"name": "PYTHONPATH", "value": checkout}]
    data = [mount for mount in worker["volumeMounts"] if mount["name"] == "data"]
    assert scheduler["volumeMounts"] == data and len(data) == 1
    volumes = [CLUSTER["spec"][part]["spec"]["volumes"][0] for part in ("scheduler", "worker")]
    assert volumes[0] == volumes[1] and volumes[0]["name"] == "data"
    assert worker["resources"]["requests"] == worker["resources"]["limits"]


@needs_cluster_tools
def test_pods_and_service_of_the_kubernetes_object_are_valid() -> None:
    """By Kubernetes' schemas; the fields around them are the operator's."""
    specs = [("Pod", CLUSTER["spec"][part]["spec"]) for part in ("scheduler", "worker")]
    specs.append(("Service", CLUSTER["spec"]["scheduler"]["service"]))
    items = [{"apiVersion": "v1", "kind": kind, "metadata": {"name": "dask"}, "spec": spec} for kind, spec in specs]
    assert problems((f"1.{minor}.0", "dask", item) for minor in range(OLDEST, NEWEST + 1) for item in items) == ""


def test_commands_of_the_pages_have_options_that_there_are() -> None:
    parser = make_parser("")
    add_dataclass(parser, PreprocessingOptions)
    add_dataclass(parser, ClusterOptions)
    text = "\n".join((FOLDER / name).read_text() for name in ("README.md", "slurm.md", "cluster.yaml"))
    text = re.sub(r"\\\n#? *", " ", text)
    commands = re.findall(r"scripts/preproc\.sh (--.*)", text)
    assert len(commands) == 3
    for command in commands:
        args = parser.parse_args(shlex.split(command.replace('"$address_file"', "file.json")))
        assert from_args(PreprocessingOptions, args).raw_dir.is_absolute()
        assert from_args(ClusterOptions, args).is_elsewhere
    workers = [_container("worker")["args"], *map(shlex.split, re.findall(r"dask worker .*--memory-limit 0.*", text))]
    assert len(workers) == 3
    for worker in workers:
        assert worker[worker.index("--nthreads") + 1] == "1" and worker[worker.index("--memory-limit") + 1] == "0"


def _start(stack: ExitStack, args: list[str], log: Path) -> Child:
    assert args[0] == "dask"
    env = environment(None, prepend={"PYTHONPATH": [ROOT]})
    process = Child([sys.executable, "-m", *args], env=env, stdout=log, stderr=log)
    stack.callback(process.stop, first=signal.SIGKILL)
    return process
