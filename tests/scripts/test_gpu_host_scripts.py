"""Scripts for GPU hosts and Docker, with a mock ``docker`` and a mock ``nvidia-smi``: their checks and the command
lines that they run."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT

TOOLS = ("bash", "cat", "dirname", "grep", "id", "mkdir", "stat", "tail", "tr")
MOCK_DOCKER = """#!/bin/bash
case "$1 $2" in
  "info --format")
    [ -z "$MOCK_ENGINE_ERROR" ] || { echo "$MOCK_ENGINE_ERROR" >&2; exit 1; }
    case "$3" in
      *Runtimes*) echo "$MOCK_RUNTIMES" ;;
      *DockerRootDir*) echo "$MOCK_ENGINE_FOLDER" ;;
      *) echo 27.0 ;;
    esac ;;
  "version --format") echo "$MOCK_COMPONENTS" ;;
  "images --quiet") [ "$MOCK_IMAGES" != "$3" ] || echo 0123456789ab ;;
  "run --help") echo "$MOCK_HELP" ;;
  "image inspect") [ "$MOCK_IMAGES" = "$3" ] ;;
  *) printf '%s\\n' "$@" >"$MOCK_LOG" ;;
esac
"""
MOCK_NVIDIA_SMI = '#!/bin/bash\necho "$MOCK_GPU"\nexit "${MOCK_DRIVER_CODE:-0}"\n'
MOCK_PYTHON = f"""#!/bin/bash
case "$1 $2 $3" in
  "-c "*onnxruntime*) exit "${{MOCK_CUDA_CODE:-0}}" ;;
  "-c "*) exit "${{MOCK_REQUIREMENTS_CODE:-0}}" ;;
  "-m runner --print-launch-modes") exec {sys.executable} "$@" ;;
  "-m deployment_toolkit.server_access"*)
    [ $# -gt 2 ] || {{ echo /mock/library.so; exit; }}
    shift 2
    [ "$1 $3 $5" = "--http-port --grpc-port --" ] && shift 5 && exec "$@" ;;
esac
printf '%s\\n' "PYTHONPATH=$PYTHONPATH" "PWD=$PWD" "$@" >"$MOCK_LOG"
"""
MOCK_DF = """#!/bin/bash
echo '  Avail'
if [ "$3" = "$MOCK_FULL" ]; then echo '    5G'; else echo '  500G'; fi
"""
WITH_TOOLKIT = '{"nvidia":{},"runc":{}}'
USER = f"{os.getuid()}:{os.getgid()}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@dataclass
class Host:
    """A mock GPU host with a copy of the scripts in ``triton``; commands run in the folder above."""

    above: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.above / "triton"

    def run(self, command: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.above,
            env=self.env | env,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )

    def arguments(self, command: str, **env: str) -> list[str]:
        """Arguments with which the command calls docker or python."""
        done = self.run(command, **env)
        assert done.returncode == 0, done.stderr
        return Path(self.env["MOCK_LOG"]).read_text().splitlines()

    def error(self, command: str, **env: str) -> str:
        """The one line of error of a command that fails."""
        done = self.run(command, **env)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ")
        assert not Path(self.env["MOCK_LOG"]).exists()
        return line


@pytest.fixture
def host(tmp_path: Path) -> Host:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tools / tool).symlink_to(found)
    _write(tools / "docker", MOCK_DOCKER)
    _write(tools / "nvidia-smi", MOCK_NVIDIA_SMI)
    _write(tools / "df", MOCK_DF)
    root = tmp_path / "above" / "triton"
    for folder in ("scripts", "runner"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    _write(root / ".venv" / "bin" / "python", MOCK_PYTHON)
    env = {
        "PATH": str(tools),
        "MOCK_LOG": str(tmp_path / "log"),
        "MOCK_RUNTIMES": WITH_TOOLKIT,
        "MOCK_HELP": "--gpus gpu-request",
        "MOCK_IMAGES": "wide-deep-deployment",
        "MOCK_GPU": "NVIDIA A30",
    }
    return Host(root.parent, env)


def _values(arguments: list[str], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(arguments) if name == option]


def test_build_script_passes_its_options_to_docker(host: Host) -> None:
    command, root = "./triton/scripts/docker/build.sh", str(host.root)
    start = ["build", "--file", f"{root}/Dockerfile", "--tag"]
    assert host.arguments(command) == [*start, "wide-deep-deployment", root]
    arguments = host.arguments(f"{command} --network=host", FROM_IMAGE_NAME="debian:12", IMAGE="mine")
    assert arguments == [*start, "mine", "--build-arg", "FROM_IMAGE_NAME=debian:12", "--network=host", root]


def test_interactive_script_mounts_the_folders_of_the_host(host: Host) -> None:
    arguments = host.arguments("./triton/scripts/docker/interactive.sh ls -l 'a b'")
    assert arguments[0] == "run"
    assert {f"{host.above}:{host.above}", f"{host.root}:{host.root}"} <= set(_values(arguments, "--volume"))
    assert _values(arguments, "--workdir") == [str(host.above)]
    assert f"PYTHONPATH={host.root}" in _values(arguments, "--env")
    assert _values(arguments, "--user") == [USER]
    assert arguments[-4:] == ["wide-deep-deployment", "ls", "-l", "a b"]
    assert "--tty" not in arguments  # there is none here
    assert host.arguments("./triton/scripts/docker/interactive.sh")[-1] == "bash"


def test_triton_script_listens_on_this_host_only(host: Host) -> None:
    arguments = host.arguments("./triton/scripts/docker/triton_inference_server.sh --log-verbose=1")
    repository = f"{host.above}/runner_workspace/model_store"
    assert _values(arguments, "--publish") == [f"127.0.0.1:{port}:{port}" for port in (8000, 8001, 8002)]
    library = "/mock/library.so"
    volumes = [f"{repository}:{repository}:ro", f"{library}:{library}:ro"]
    assert _values(arguments, "--volume") == volumes  # and no socket of Docker's
    # The key is in the environment of the command: its arguments can be read by every user.
    assert _values(arguments, "--env")[:3] == ["HOME=/tmp", f"LD_PRELOAD={library}", "WIDE_DEEP_PRIVATE_OPTIONS"]
    assert _values(arguments, "--ipc") == ["host"]
    server = ["tritonserver", f"--model-repository={repository}", "--model-control-mode=explicit", "--log-verbose=1"]
    assert arguments[-5:] == ["nvcr.io/nvidia/tritonserver:25.02-py3", *server]
    assert Path(repository).is_dir()
    other = host.arguments(
        "./triton/scripts/docker/triton_inference_server.sh",
        TRITON_IMAGE="mine:1",
        MODEL_REPOSITORY_PATH=f"{host.above}/elsewhere",
        PORT="9100",
    )
    assert other[-4:-1] == ["mine:1", "tritonserver", f"--model-repository={host.above}/elsewhere"]
    assert _values(other, "--publish") == ["127.0.0.1:9100:8000", "127.0.0.1:9101:8001", "127.0.0.1:9102:8002"]


@pytest.mark.parametrize(("caller", "user"), [("1000", "1000:1000"), ("0", "65534:65534")])
def test_triton_script_runs_as_the_caller_but_not_as_root(host: Host, caller: str, user: str) -> None:
    mock_id = Path(host.env["PATH"]) / "id"
    mock_id.unlink()
    _write(mock_id, f"#!/bin/bash\necho {caller}\n")
    command = "./triton/scripts/docker/triton_inference_server.sh"
    arguments = host.arguments(command)
    assert _values(arguments, "--user") == [user]
    assert _values(arguments, "--cap-drop") == ["ALL"]
    assert _values(arguments, "--security-opt") == ["no-new-privileges"]
    assert (f"--client-user {user}" in host.run(command).stderr) == (caller == "0")


def test_triton_script_needs_a_key(host: Host) -> None:
    (host.root / ".venv" / "bin" / "python").unlink()
    assert "run scripts/install.sh first" in host.error("./triton/scripts/docker/triton_inference_server.sh")


CONTAINERS = ["interactive.sh", "triton_inference_server.sh"]


@pytest.mark.parametrize("script", CONTAINERS)
def test_container_gets_the_gpus_of_the_setting(host: Host, script: str) -> None:
    command, tools = f"./triton/scripts/docker/{script}", Path(host.env["PATH"])
    without_hook = host.arguments(command, GPUS="0,2")
    _write(tools / "nvidia-ctk", "")
    by_cdi = host.arguments(command, GPUS="0,2", MOCK_RUNTIMES='{"runc":{}}')
    _write(tools / "nvidia-container-runtime-hook", "")
    current = host.arguments(command, GPUS="0,2")
    old = host.arguments(command, MOCK_HELP="no such option", GPUS="0,2")
    for by_request in (current, by_cdi):
        assert _values(by_request, "--gpus") == ['"device=0,2"']
        assert "--runtime=nvidia" not in by_request
    for by_runtime in (old, without_hook):
        assert "--runtime=nvidia" in by_runtime
        assert "NVIDIA_VISIBLE_DEVICES=0,2" in _values(by_runtime, "--env")
        assert "--gpus" not in by_runtime
    assert _values(current, "--ulimit") == ["memlock=-1", "stack=67108864"]
    assert _values(host.arguments(command), "--gpus") == ["all"]
    (Path(host.env["PATH"]) / "nvidia-smi").unlink()
    none = host.arguments(command, GPUS="none", MOCK_RUNTIMES="{}")
    assert "--gpus" not in none
    assert "--runtime=nvidia" not in none


@pytest.mark.parametrize("script", CONTAINERS)
def test_container_script_names_missing_requirements(host: Host, script: str) -> None:
    command = f"./triton/scripts/docker/{script}"
    assert "NVIDIA's Container Toolkit" in host.error(command, MOCK_RUNTIMES='{"runc":{}}')
    assert "its engine does not answer: no daemon" in host.error(command, MOCK_ENGINE_ERROR="no daemon")
    podman = '[{"Name":"Podman Engine"}]'
    assert "podman starts containers without the GPUs" in host.error(command, MOCK_COMPONENTS=podman)
    lost = host.error(command, MOCK_GPU="No devices were found", MOCK_DRIVER_CODE="6")
    assert "nvidia-smi shows none: No devices were found." in lost
    assert "lists none" in host.error(command, MOCK_GPU="")


def test_interactive_script_without_an_image_names_the_build_script(host: Host) -> None:
    assert "build it with scripts/docker/build.sh" in host.error(
        "./triton/scripts/docker/interactive.sh", MOCK_IMAGES=""
    )


# What nvidia-smi calls the GPU that a start script is for.
GPUS = {
    "NVIDIA-A30": "NVIDIA A30",
    "NVIDIA-DGX-1-(1x-V100-32GB)": "Tesla V100-SXM2-32GB",
    "NVIDIA-DGX-A100-(1x-A100-80GB)": "NVIDIA A100-SXM4-80GB",
    "NVIDIA-H200": "NVIDIA H200",
    "NVIDIA-T4": "Tesla T4",
}
HOSTS = [path.stem.removeprefix("start_") for path in (ROOT / "runner").glob("start_[A-Z]*.sh")]
ON_CPUS = [name for name in HOSTS if not name.startswith("NVIDIA-")]  # runner/start_CPU.sh, runner/start_CPU-docker.sh


def _start(name: str) -> str:
    return shlex.quote(f"./triton/runner/start_{name}.sh")


@pytest.fixture
def installing_host(host: Host) -> Host:
    """A host with a mock of the installation; tests/scripts/test_install.py tests the real one."""
    _write(host.root / "scripts" / "install.sh", "#!/bin/bash\necho installed\n")
    return host


@pytest.mark.parametrize("name", HOSTS)
def test_start_script_runs_its_configuration_in_the_current_folder(installing_host: Host, name: str) -> None:
    gpu = GPUS[name] if name not in ON_CPUS else ""
    arguments = installing_host.arguments(f"{_start(name)} --keep-models", MOCK_GPU=f"{gpu}\nother")
    root, config = installing_host.root, f"{installing_host.root}/runner/config_{name}.yaml"
    options = ["-m", "runner", "--config-path", config, "--devices", "0", "--keep-models"]
    assert arguments == [f"PYTHONPATH={root}", f"PWD={installing_host.above}", *options]
    assert Path(config).is_file()


@pytest.mark.parametrize("name", ON_CPUS)
def test_cpu_start_script_installs_and_runs_in_the_current_folder(installing_host: Host, name: str) -> None:
    done = installing_host.run(_start(name), MOCK_GPU="", MOCK_DRIVER_CODE="9")
    assert (done.returncode, done.stdout) == (0, "installed\n")
    assert f"PWD={installing_host.above}" in Path(installing_host.env["MOCK_LOG"]).read_text().splitlines()


@pytest.mark.parametrize("name", GPUS)
def test_start_scripts_refuse_another_gpu_without_the_option(host: Host, name: str) -> None:
    for other in ("NVIDIA A100-PCIE-40GB", "NVIDIA H100 80GB HBM3", "Tesla V100-SXM2-16GB", "NVIDIA T400"):
        assert f"GPU is {other}, runner/start_" in host.error(_start(name), MOCK_GPU=other)
    arguments = host.arguments(f"{_start(name)} --any-gpu --keep-models", MOCK_GPU=other)
    assert arguments[-3:] == ["--devices", "0", "--keep-models"]


IN_A_CONTAINER_OF_OURS = Path("/.dockerenv").exists() and Path("/var/run/docker.sock").is_socket()
beside_containers = pytest.mark.skipif(
    IN_A_CONTAINER_OF_OURS, reason="start scripts trust scripts/docker/interactive.sh"
)


@beside_containers
@pytest.mark.parametrize("name", GPUS)
def test_start_script_checks_the_container_engine(host: Host, name: str) -> None:
    gpu = GPUS[name]
    assert "NVIDIA's Container Toolkit" in host.error(_start(name), MOCK_GPU=gpu, MOCK_RUNTIMES='{"runc":{}}')
    silent = host.error(_start(name), MOCK_GPU=gpu, MOCK_ENGINE_ERROR="no daemon")
    assert f"runner/start_{name}.sh needs Docker and its engine does not answer: no daemon" in silent


@beside_containers
def test_start_script_names_experiments_that_run_without_docker(host: Host) -> None:
    (Path(host.env["PATH"]) / "docker").unlink()
    without = host.error(_start("NVIDIA-H200"), MOCK_GPU="NVIDIA H200")
    assert "runner/start_NVIDIA-H200.sh needs Docker and there is no docker command: install it" in without
    assert without.endswith(". Experiments 1 2 run without it: --experiments 1 2")
    chosen = host.arguments(f"{_start('NVIDIA-H200')} --experiments 1 2", MOCK_GPU="NVIDIA H200")
    assert chosen[-5:] == ["--devices", "0", "--experiments", "1", "2"]
    assert host.run(f"{_start('NVIDIA-H200')} --help", MOCK_GPU="NVIDIA H200").returncode == 0
    assert "without it" not in host.run(_start("NVIDIA-A30")).stderr


def test_start_script_checks_the_cuda_provider_where_it_is_needed(host: Host) -> None:
    command, env = _start("NVIDIA-H200"), {"MOCK_GPU": "NVIDIA H200", "MOCK_CUDA_CODE": "1"}
    missing = host.error(command, **env)
    assert "experiments 1 2 run without Docker, on onnxruntime's CUDA provider, which is not installed" in missing
    assert missing.endswith("run scripts/install.sh --gpu, or leave them out with --experiments 3 4")
    assert host.error(f"{command} --experiments 2", **env).endswith("run scripts/install.sh --gpu")
    assert host.arguments(f"{command} --experiments 3 4", **env)[-3:] == ["--experiments", "3", "4"]
    assert host.arguments(_start("NVIDIA-A30"), MOCK_CUDA_CODE="1")


def test_start_script_checks_packages_experiments_and_disk(host: Host) -> None:
    command = _start("NVIDIA-A30")
    assert "requirements are not installed: run scripts/install.sh" in host.error(command, MOCK_REQUIREMENTS_CODE="1")
    assert "experiment 3: " in host.error(f"{command} --experiments 3")
    assert "5 GB are free: make room" in host.error(command, MOCK_FULL=str(host.above))


def test_disk_check_uses_the_disk_of_the_folder(host: Host, tmp_path: Path) -> None:
    _write_over(host, "df", f'#!/bin/bash\nexec {shutil.which("df")} "$@"\n')
    command = f"source triton/scripts/host_checks.sh; require_disk {tmp_path}"
    assert host.run(f"{command} 0 models").returncode == 0
    free_gb = shutil.disk_usage(tmp_path).free >> 30
    told = host.error(f"{command} 1000000000 models")
    assert abs(int(told.split(", ")[1].split()[0]) - free_gb) <= 5, told


def test_cpu_docker_start_script_checks_engine_and_disk(installing_host: Host, tmp_path: Path) -> None:
    host, command, engine = installing_host, _start("CPU-docker"), tmp_path / "engine"
    engine.mkdir()
    host.env["MOCK_ENGINE_FOLDER"] = str(engine)
    assert "runner/start_CPU-docker.sh needs Docker" in host.error(command, MOCK_ENGINE_ERROR="no daemon")
    assert "models and results need 10 GB" in host.error(command, MOCK_FULL=str(host.above))
    assert f"GB on the disk of {engine}, 5 GB are free" in host.error(command, MOCK_FULL=str(engine))
    assert host.arguments(command, MOCK_FULL=str(engine), MOCK_IMAGES="wide-deep-tritonserver")
    (Path(host.env["PATH"]) / "docker").unlink()
    Path(host.env["MOCK_LOG"]).unlink()
    assert "install it (https://docs.docker.com/engine/install), or use runner/start_CPU.sh" in host.error(command)


def _write_over(host: Host, tool: str, text: str) -> None:
    path = Path(host.env["PATH"]) / tool
    path.unlink()
    _write(path, text)


def test_start_scripts_are_one_line_over_one_script() -> None:
    for path in (ROOT / "runner").glob("start_NVIDIA-*.sh"):
        shebang, line = path.read_text().splitlines()
        device = path.stem.removeprefix("start_")
        assert shebang == "#!/usr/bin/env bash"
        assert line.startswith(f'exec "$(dirname "${{BASH_SOURCE[0]}}")/start_gpu.sh" \'{device}\' ')


def test_shell_scripts_are_executable_and_short() -> None:
    scripts = [*(ROOT / "scripts" / "docker").glob("*.sh"), *(ROOT / "runner").glob("*.sh")]
    assert len(scripts) >= 9
    assert all(os.access(path, os.X_OK) for path in scripts)
    assert all(len(path.read_text().splitlines()) <= 40 for path in [*scripts, ROOT / "Dockerfile"])


def test_dockerfile_installs_the_libraries_that_install_sh_needs() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    listed = re.findall(r"^lib\S+\.so\S* (\S+) ", (ROOT / "scripts" / "install.sh").read_text(), flags=re.MULTILINE)
    assert len(listed) >= 4
    assert all(f" {package} " in dockerfile for package in listed)
    for sources in re.findall(r"^COPY (.*) \S+$", dockerfile, flags=re.MULTILINE):
        assert all(source == "." or list(ROOT.glob(source)) for source in sources.split())
