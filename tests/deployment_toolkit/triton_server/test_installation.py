from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.errors import ServerError
from deployment_toolkit.triton_server import installation
from deployment_toolkit.triton_server.installation import Installation


def installed_for(version: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """The installation as an interpreter of this version would find it, with its libpython in ``folder``."""
    found = Installation.find()
    shutil.copy(found.libpython / installation._libpython_name(), folder / f"libpython{version}.so.1.0")
    monkeypatch.setattr(installation, "_python_version", lambda: version)
    return Installation(found.package, folder)


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_stub_takes_the_libpython_of_its_interpreter(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package's stub for 3.13 is linked with a libpython of the package."""
    installed = installed_for(version, tmp_path, monkeypatch)
    with installed.command() as command:
        (backends,) = (Path(part.partition("=")[2]) for part in command if part.startswith("--backend-directory="))
        stub = backends / "python" / "triton_python_backend_stub"
        done = subprocess.run(["ldd", stub], env=installed.environment(), capture_output=True, text=True, check=True)
        (taken,) = re.findall(r"libpython\S+ => (\S+)", done.stdout)
        assert Path(taken).resolve() == tmp_path / f"libpython{version}.so.1.0"
        assert "not found" not in done.stdout


def test_copied_stub_that_may_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = installed_for("3.13", tmp_path, monkeypatch)
    monkeypatch.setattr(shutil, "copy", shutil.copyfile)  # without the permission to run, as on a noexec mount
    with pytest.raises(ServerError, match="no program may run from .*stub: set TMPDIR"), installed.command():
        pass


def test_missing_libpython_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installation, "_python_version", lambda: "3.99")
    told = r"^libpython3\.99\.so\.1\.0 is missing, .* apt-get install libpython3\.99$"
    with pytest.raises(ServerError, match=told):
        Installation.find()


def test_vertex_ai_endpoint_stays_closed() -> None:
    """Triton opens it where this variable is PREDICTION; its requests are not among the restricted ones."""
    assert "AIP_MODE" not in Installation.find().environment({"PATH": "/usr/bin", "AIP_MODE": "PREDICTION"})
