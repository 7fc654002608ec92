from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT

SCRIPT = ROOT / "scripts" / "install.sh"
BASE = ("requirements-dev.txt", "requirements.txt", "constraints.txt", "pyproject.toml")
OVERLAYS = ("model-analyzer", "model-navigator")
OTHERS = (*(f"requirements-{name}.txt" for name in OVERLAYS), "requirements-gpu.txt", "requirements-compiler.txt")
MODEL_ANALYZER = ROOT / "requirements-model-analyzer.txt"
# Writes down how it is called; as ``-m venv`` it copies itself, asked for a folder it names its own.
INTERPRETER = """#!{python}
import pathlib, shutil, sys
root = pathlib.Path("{root}")
with (root / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + chr(10))
if "venv" in sys.argv:
    made = pathlib.Path(sys.argv[-1]) / "bin"
    made.mkdir(parents=True)
    shutil.copy(__file__, made / "python")
elif "import ziglang" in sys.argv:
    sys.exit(1)
elif "sysconfig" in sys.argv[-1]:
    print(pathlib.Path(__file__).parent)
"""
TOOLS = ("bash", "cat", "sha256sum", "cut", "grep", "dirname", "rm")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without a .venv, and a folder ``bin`` with the tools of a minimal system."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    for name in (*BASE, *OTHERS):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def _install(checkout: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "bash"), str(checkout / "scripts" / "install.sh"), *options],
        env={"PATH": str(checkout / "bin")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_missing_python_names_its_package(checkout: Path) -> None:
    done = _install(checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python 3.11 found")
    assert "apt install python3.11 python3.11-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_missing_library_names_its_package(checkout: Path) -> None:
    (checkout / "bin" / "ldconfig").write_text("#!/bin/bash\necho 'libstdc++.so.6 libssl.so.3'\n")
    (checkout / "bin" / "ldconfig").chmod(0o755)
    (checkout / "bin" / "python3.11").write_text(
        f'#!/bin/bash\ncase "$*" in *LIBDIR*) echo /nowhere ;; *) exec {sys.executable} "$@" ;; esac\n'
    )
    (checkout / "bin" / "python3.11").chmod(0o755)
    done = _install(checkout)
    assert done.returncode == 1
    assert "libpython3.11.so.1.0 is missing" in done.stderr
    assert "apt install libpython3.11" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("compiler", ["", "clang++"])
def test_compiler_is_installed_if_the_host_has_none(checkout: Path, compiler: str) -> None:
    libraries = "libpython3.11.so.1.0 libstdc++.so.6 libssl.so.3 libz.so.1"
    programs = {"ldconfig": f"#!/bin/bash\necho '{libraries}'\n"}
    programs["python3.11"] = INTERPRETER.format(python=sys.executable, root=checkout)
    if compiler:
        programs[compiler] = "#!/bin/bash\n"
    for name, text in programs.items():
        (checkout / "bin" / name).write_text(text)
        (checkout / "bin" / name).chmod(0o755)
    calls = _new_calls(checkout)
    assert any(call.endswith("-r requirements-compiler.txt") for call in calls) == (not compiler)
    assert calls[-2:] == ["-m deployment_toolkit.cpp_host", "-m deployment_toolkit.server_access"]


@pytest.fixture
def installed(checkout: Path) -> Path:
    """A checkout with all base packages in its .venv."""
    digest = hashlib.sha256(b"".join((checkout / name).read_bytes() for name in BASE)).hexdigest()
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / ".installed").write_text(f"base {digest}\n")
    interpreter = checkout / ".venv" / "bin" / "python"
    interpreter.write_text(INTERPRETER.format(python=sys.executable, root=checkout))
    interpreter.chmod(0o755)
    return checkout


def _new_calls(checkout: Path, *options: str) -> list[str]:
    """Calls of the interpreter during an installation, without ``-m pip``."""
    calls = checkout / "calls.txt"
    calls.unlink(missing_ok=True)
    done = _install(checkout, *options)
    assert done.returncode == 0, done.stderr
    return [line.removeprefix("-m pip ") for line in calls.read_text().splitlines()] if calls.exists() else []


def test_gpu_option_replaces_onnxruntime_until_cpu_option(installed: Path) -> None:
    uninstall, install = _new_calls(installed, "--gpu")
    assert uninstall.startswith("uninstall --yes") and "onnxruntime -r requirements-gpu.txt" in uninstall
    assert install.startswith("install ") and install.endswith("-c constraints.txt -r requirements-gpu.txt")
    assert _new_calls(installed, "--gpu") == _new_calls(installed) == []
    (installed / "requirements-gpu.txt").write_text("onnxruntime-gpu==2\n")
    assert len(_new_calls(installed, "--gpu")) == 2
    uninstall, install = _new_calls(installed, "--cpu")
    assert "-r requirements-gpu.txt" in uninstall
    assert install.endswith("-c constraints.txt onnxruntime")
    assert _new_calls(installed, "--cpu") == []
    done = _install(installed, "--cpu", "--gpu")
    assert done.stderr == "error: --gpu and --cpu: there is one onnxruntime, give one of them\n"


def test_old_nvidia_driver_is_reported_before_the_installation(installed: Path) -> None:
    (installed / "bin" / "nvidia-smi").write_text("#!/bin/bash\necho 550.54.15\n")
    (installed / "bin" / "nvidia-smi").chmod(0o755)
    done = _install(installed, "--gpu")
    assert done.returncode == 1
    assert "NVIDIA's driver is 550, CUDA 13 needs 580 or newer" in done.stderr
    assert not (installed / "calls.txt").exists()


@pytest.mark.parametrize("name", OVERLAYS)
def test_other_environment_is_on_top_of_the_project_packages(installed: Path, name: str) -> None:
    checkout, home = installed, installed / f".venv-{name}"
    assert _install(checkout).returncode == 0
    assert not (checkout / "calls.txt").exists() and not home.exists()
    done = _install(checkout, f"--{name}")
    assert done.returncode == 0, done.stderr
    assert (checkout / "calls.txt").read_text().splitlines()[-1].endswith(f"--no-deps -r requirements-{name}.txt")
    beneath = home / "bin" / "venv_beneath.pth"
    assert beneath.read_text().strip() == str(checkout / ".venv" / "bin")
    (checkout / "calls.txt").unlink()
    assert _install(checkout, f"--{name}").returncode == 0
    assert not (checkout / "calls.txt").exists()


def test_unknown_option_is_named(checkout: Path) -> None:
    done = _install(checkout, "--model-analyser")
    assert done.returncode == 1
    known = "--gpu, --cpu, --model-analyzer, --model-navigator, --dev or none"
    assert done.stderr == f"error: unknown option --model-analyser: use {known}\n"


def test_model_analyzer_packages_are_pinned_and_not_in_the_project() -> None:
    pins = _pins(MODEL_ANALYZER)
    assert pins["triton-model-analyzer"] == "1.58.0"
    assert not pins.keys() & (_pins(ROOT / "constraints.txt").keys() | _pins(ROOT / "requirements.txt").keys())
    python = ROOT / ".venv-model-analyzer" / "bin" / "python"
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_model_navigator_packages_are_pinned_and_complaints_are_the_known_ones() -> None:
    pins = _pins(ROOT / "requirements-model-navigator.txt")
    assert pins["triton-model-navigator"] == "0.14.0"
    assert not pins.keys() & (_pins(ROOT / "constraints.txt").keys() | _pins(ROOT / "requirements.txt").keys())
    python = ROOT / ".venv-model-navigator" / "bin" / "python"
    checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
    told = [line.split() for line in checked.stdout.splitlines() if line.split()[0] in pins]
    # "NAME VERSION requires PACKAGE, which is not installed." or "NAME VERSION has requirement PACKAGE…, but …"
    found = {re.split("[,<>=~;\\[]", words[3 if words[2] == "requires" else 4])[0] for words in told}
    assert {words[0] for words in told} == {"triton-model-navigator"}
    assert found == {"mpmath", "numpy", "nvidia-modelopt", "onnxruntime-gpu", "onnxscript", "packaging", "tensorrt"}


def test_gpu_packages_are_pinned_and_not_in_the_constraints() -> None:
    pins = _pins(ROOT / "requirements-gpu.txt")
    assert {"onnxruntime-gpu", "nvidia-cublas", "nvidia-cudnn-cu13"} <= pins.keys()
    assert not pins.keys() & _pins(ROOT / "constraints.txt").keys()


def _pins(path: Path) -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    return {name.partition("[")[0].lower().replace("_", "-"): version for name, version in pins.items()}
