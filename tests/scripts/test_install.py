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
EXPECTED = ROOT / "scripts" / "pip_check_expected.txt"
BASE = (
    "requirements-dev.txt",
    "requirements.txt",
    "requirements-no-deps.txt",
    "requirements-perf-analyzer.txt",
    "constraints.txt",
    "pyproject.toml",
)
PINS = ("constraints.txt", "requirements-no-deps.txt", "requirements-perf-analyzer.txt")
OVERLAYS = ("model-analyzer", "model-navigator")
OTHERS = (*(f"requirements-{name}.txt" for name in OVERLAYS), "requirements-gpu.txt", "requirements-compiler.txt")
MODEL_ANALYZER = ROOT / "requirements-model-analyzer.txt"
VERSIONS = ("3.11", "3.12", "3.13")
# Writes down how it is called; as ``-m venv`` it copies itself, asked for version, folder or check it answers as a
# Python of that version with all packages.
INTERPRETER = """#!{python}
import pathlib, shutil, sys
root = pathlib.Path("{root}")
if "version_info" in sys.argv[-1]:
    print("{version}")
    sys.exit()
with (root / "calls.txt").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + chr(10))
if "venv" in sys.argv:
    made = pathlib.Path(sys.argv[-1]) / "bin"
    shutil.rmtree(made.parent, ignore_errors=True)
    made.mkdir(parents=True)
    shutil.copy(__file__, made / "python")
elif "import ziglang" in sys.argv:
    sys.exit(1)
elif "check" in sys.argv:
    print((root / "pip_check.txt").read_text(), end="")
elif "sysconfig" in sys.argv[-1]:
    print(pathlib.Path(__file__).parent)
"""
TOOLS = ("bash", "cat", "sha256sum", "cut", "grep", "dirname", "rm")


def _program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def _interpreter(path: Path, root: Path, version: str) -> None:
    _program(path, INTERPRETER.format(python=sys.executable, root=root, version=version))


def _digest(*names: str) -> str:
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in names)).hexdigest()


def _expected_of_pip_check() -> str:
    """The answer of pip check as it is kept."""
    return "".join(line for line in EXPECTED.read_text().splitlines(keepends=True) if not line.startswith("#"))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout without a .venv, and a folder ``bin`` with the tools of a minimal system of glibc 2.36."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    shutil.copy(EXPECTED, tmp_path / "scripts")
    for name in (*BASE, *OTHERS):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    _program(tmp_path / "bin" / "getconf", "#!/bin/bash\necho glibc 2.36\n")
    _libraries(tmp_path, *VERSIONS)
    return tmp_path


def _libraries(checkout: Path, *versions: str) -> None:
    """Lets the system have the libraries of these versions of Python."""
    listed = " ".join(f"libpython{version}.so.1.0" for version in versions)
    _program(checkout / "bin" / "ldconfig", f"#!/bin/bash\necho '{listed} libstdc++.so.6 libssl.so.3 libz.so.1'\n")
    (checkout / "pip_check.txt").write_text(_expected_of_pip_check())


def _install(checkout: Path, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bin" / "bash"), str(checkout / "scripts" / "install.sh"), *options],
        env={"PATH": str(checkout / "bin"), **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("system", "advice"),
    [
        ("debian 12", "apt install python3.11 python3.11-venv libpython3.11"),
        ("debian 13", "apt install python3.13 python3.13-venv libpython3.13"),
        ("ubuntu 24.04", "apt install python3.12 python3.12-venv libpython3.12"),
        ("ubuntu 25.10", "apt install python3.13 python3.13-venv libpython3.13"),
        ("fedora 43", "Debian 12: apt install python3.11"),
    ],
)
def test_missing_python_names_the_packages_of_the_system(checkout: Path, system: str, advice: str) -> None:
    name, version = system.split()
    (checkout / "os-release").write_text(f'ID={name}\nVERSION_ID="{version}"\nPRETTY_NAME="Some {system}"\n')
    script = checkout / "scripts" / "install.sh"
    script.write_text(script.read_text().replace("/etc/os-release", str(checkout / "os-release")))
    _program(checkout / "bin" / "python3", "#!/bin/bash\nexit 0\n")  # a version without an answer: too old or too new
    done = _install(checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python 3.11, 3.12 or 3.13 found: install one (")
    assert advice in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("version", VERSIONS)
def test_missing_library_names_its_package(checkout: Path, version: str) -> None:
    _libraries(checkout, *(other for other in VERSIONS if other != version))
    _interpreter(checkout / "bin" / f"python{version}", checkout, version)
    done = _install(checkout)
    assert done.returncode == 1
    assert f"libpython{version}.so.1.0 is missing" in done.stderr
    assert f"apt install libpython{version}" in done.stderr
    assert not (checkout / ".venv").exists()


def test_system_python_comes_first_and_a_named_one_before_it(checkout: Path) -> None:
    for name, version in (("python3", "3.12"), ("python3.13", "3.13"), ("mine", "3.11"), ("old", "")):
        _interpreter(checkout / "bin" / name, checkout, version)
    mark = checkout / ".venv" / ".made-for"
    for asked, version in (({}, "3.12"), ({"PYTHON": "mine"}, "3.11"), ({}, "3.11")):  # a .venv that works is kept
        done = _install(checkout, **asked)
        assert done.returncode == 0, done.stderr
        assert mark.read_text() == f"{_digest(*PINS)} {version}\n"
    done = _install(checkout, PYTHON="old")
    assert done.stderr == "error: PYTHON=old is no Python 3.11, 3.12 or 3.13: name one, or leave PYTHON out\n"


def test_environment_of_other_pins_is_made_anew(checkout: Path) -> None:
    _interpreter(checkout / "bin" / "python3", checkout, "3.13")
    _interpreter(checkout / ".venv" / "bin" / "python", checkout, "3.13")
    stale = checkout / ".venv" / "stale"
    stale.write_text("")
    (checkout / ".venv" / ".installed").write_text(f"base {_digest(*BASE)}\n")  # as it was written before
    done = _install(checkout)
    assert done.returncode == 0, done.stderr
    assert "making .venv anew" in done.stdout and not stale.exists()
    stale.write_text("")
    assert _new_calls(checkout) == []
    for name, kept in (("pyproject.toml", True), ("constraints.txt", False)):
        with (checkout / name).open("a") as file:
            file.write("# changed\n")
        assert _new_calls(checkout) != []
        assert stale.exists() == kept


@pytest.mark.parametrize(("glibc", "release"), [("2.36", "2.51.0"), ("2.38", "2.60.0"), ("2.41", "2.60.0")])
def test_load_generator_fits_glibc(checkout: Path, glibc: str, release: str) -> None:
    _program(checkout / "bin" / "getconf", f"#!/bin/bash\necho glibc {glibc}\n")
    _interpreter(checkout / "bin" / "python3", checkout, "3.13")
    (call,) = [call for call in _new_calls(checkout) if ".venv/perf_analyzer" in call]
    assert call.endswith(f"--no-deps --target .venv/perf_analyzer tritonclient=={release}")


def test_other_answer_of_pip_check_is_an_error(checkout: Path) -> None:
    _interpreter(checkout / "bin" / "python3", checkout, "3.13")
    first, *others = _expected_of_pip_check().splitlines()
    (checkout / "pip_check.txt").write_text("\n".join([*others, "mine 1 requires numpy<2", ""]))
    done = _install(checkout)
    assert done.returncode == 1
    assert f'pip check says "mine 1 requires numpy<2" and no longer "{first}"; make .venv anew' in done.stderr
    (checkout / "pip_check.txt").write_text("\n".join([*others, first, ""]))
    assert _install(checkout).returncode == 0


@pytest.mark.parametrize("compiler", ["", "clang++"])
def test_compiler_is_installed_if_the_host_has_none(checkout: Path, compiler: str) -> None:
    _interpreter(checkout / "bin" / "python3.13", checkout, "3.13")
    if compiler:
        _program(checkout / "bin" / compiler, "#!/bin/bash\n")
    calls = _new_calls(checkout)
    assert any(call.endswith("-r requirements-compiler.txt") for call in calls) == (not compiler)
    assert calls[-2:] == ["-m deployment_toolkit.cpp_host", "-m deployment_toolkit.server_access"]


def test_packages_alone_are_a_part_of_the_installation(checkout: Path) -> None:
    _interpreter(checkout / "bin" / "python3", checkout, "3.13")
    calls = _new_calls(checkout, "--packages")
    assert not any("deployment_toolkit" in call or "--editable" in call for call in calls)
    first = next(call for call in _new_calls(checkout) if call.startswith("install "))
    assert first.endswith("--editable .")


def test_uv_installs_where_it_is_there(checkout: Path) -> None:
    _interpreter(checkout / "bin" / "python3", checkout, "3.13")
    _program(checkout / "bin" / "uv", f'#!/bin/bash\necho uv "$@" >>{checkout}/calls.txt\n')
    calls = _new_calls(checkout)
    assert not any(call.startswith("install ") for call in calls)
    assert sum(call.startswith("uv pip install --python .venv/bin/python") for call in calls) == 5
    shutil.rmtree(checkout / ".venv")
    assert not any(call.startswith("uv ") for call in _new_calls(checkout, INSTALLER="pip"))


@pytest.fixture
def installed(checkout: Path) -> Path:
    """A checkout with all base packages in its .venv."""
    done = f"{_digest(*BASE)} 3.11\n"
    _interpreter(checkout / ".venv" / "bin" / "python", checkout, "3.11")
    (checkout / ".venv" / ".installed").write_text(f"packages {done}base {done}")
    (checkout / ".venv" / ".made-for").write_text(f"{_digest(*PINS)} 3.11\n")
    return checkout


def _new_calls(checkout: Path, *options: str, **env: str) -> list[str]:
    """Calls of the interpreter during an installation, without ``-m pip``."""
    calls = checkout / "calls.txt"
    calls.unlink(missing_ok=True)
    done = _install(checkout, *options, **env)
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
    assert any(f"-r requirements-{name}.txt" in call for call in (checkout / "calls.txt").read_text().splitlines())
    beneath = home / "bin" / "venv_beneath.pth"
    assert beneath.read_text().strip() == str(checkout / ".venv" / "bin")
    (checkout / "calls.txt").unlink()
    assert _install(checkout, f"--{name}").returncode == 0
    assert not (checkout / "calls.txt").exists()


def test_unknown_option_is_named(checkout: Path) -> None:
    done = _install(checkout, "--model-analyser")
    assert done.returncode == 1
    known = "--gpu, --cpu, --model-analyzer, --model-navigator, --dev, --packages or none"
    assert done.stderr == f"error: unknown option --model-analyser: use {known}\n"


def test_packages_fit_together_as_expected() -> None:
    """In this environment, and with Model Analyzer's packages over it."""
    overlay = ROOT / ".venv-model-analyzer" / "bin" / "python"
    for python in (Path(sys.executable), overlay):
        checked = subprocess.run([str(python), "-m", "pip", "check"], capture_output=True, text=True, check=False)
        assert sorted(checked.stdout.splitlines()) == sorted(_expected_of_pip_check().splitlines())


def test_model_analyzer_packages_are_pinned_and_not_in_the_project() -> None:
    pins = _pins(MODEL_ANALYZER)
    assert pins["triton-model-analyzer"] == "1.58.0"
    assert not pins.keys() & (_pins(ROOT / "constraints.txt").keys() | _pins(ROOT / "requirements.txt").keys())


def test_every_requirement_is_pinned_in_the_constraints() -> None:
    constraints = [line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    for name in ("requirements.txt", "requirements-no-deps.txt", "requirements-dev.txt"):
        for line in (ROOT / name).read_text().splitlines():
            pin, _, marker = line.partition("#")[0].strip().partition("; ")
            name, _, version = pin.lower().partition("==")
            wanted = f"{name.partition('[')[0]}=={version}{'; ' + marker if marker else ''}".strip()
            assert not pin or wanted in constraints, f"{name}: {line}"


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
    lines = [line.partition("#")[0].partition(";")[0].strip() for line in path.read_text().splitlines()]
    pins = dict(line.split("==") for line in lines if line)
    return {name.partition("[")[0].lower().replace("_", "-"): version for name, version in pins.items()}
