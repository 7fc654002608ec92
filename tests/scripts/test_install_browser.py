from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT


@pytest.mark.parametrize(
    ("there", "uid", "said"),
    [
        (("chromium", "apt-get"), 0, ""),
        (("google-chrome",), 1000, ""),
        (("apt-get",), 0, "installing chromium"),
        (("apt-get",), 1000, "no Chromium, and only root can install it: tests in a browser are left out"),
        ((), 0, "no Chromium, and no apt-get to install it: tests in a browser are left out"),
    ],
)
def test_browser_is_installed_where_possible(there: tuple[str, ...], uid: int, said: str, tmp_path: Path) -> None:
    bash = shutil.which("bash")
    assert bash is not None
    for name in there:
        _write(tmp_path / name, f"#!{bash}\necho {name} $* >>$MOCK_LOG\n")
    _write(tmp_path / "id", f"#!{bash}\necho {uid}\n")
    log = tmp_path / "log"
    env = {"PATH": str(tmp_path), "MOCK_LOG": str(log)}
    script = ROOT / "scripts" / "install_browser.sh"
    done = subprocess.run([bash, script], env=env, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (f"browser: {said}\n" if said else "")
    called = log.read_text().splitlines() if log.exists() else []
    packages = "chromium fonts-dejavu-core"
    wanted = ["apt-get update -qq", f"apt-get install --yes -qq --no-install-recommends {packages}"]
    assert called == (wanted if said == "installing chromium" else [])


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
