from __future__ import annotations

import os
import sys
from pathlib import Path

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.sameness.command import Origin, command_origin

METRICS = str(ROOT / "metrics.py")


def test_origin_tells_what_changed(tmp_path: Path) -> None:
    data, own, plugin = tmp_path / "data", tmp_path / "own", tmp_path / "plugin.py"
    for folder in (data, own):
        folder.mkdir()
        (folder / "rows").write_text("1")
    plugin.write_text("x = 1\n")

    def origin(*options: str, url: str = "a") -> Origin:
        command = [sys.executable, METRICS, "--server-url", url, "--data", f"{data}/*", "--out", str(own), *options]
        return command_origin([[*command, "--loader", str(plugin)]], without=["--server-url"], own=[own])

    first = origin()
    assert origin(url="b").changed(first.parts) == []
    (own / "rows").write_text("another")
    assert origin().changed(first.parts) == []
    assert origin("--batch-size", "4").changed(first.parts) == ["options"]
    known = (data / "rows").stat()
    os.utime(data / "rows", ns=(known.st_atime_ns, known.st_mtime_ns + 1))
    assert origin().changed(first.parts) == ["files"]
    os.utime(data / "rows", ns=(known.st_atime_ns, known.st_mtime_ns))
    (data / "more").write_text("2")
    assert origin().changed(first.parts) == ["files"]
    (data / "more").unlink()
    plugin.write_text("x = 2\n")
    assert origin().changed(first.parts) == ["code"]
    assert origin().changed("no origin") == ["code", "files", "options", "packages"]


def test_installed_program_counts_with_its_code(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("model-navigator"))
    known = command_origin([[program, "convert"]], without=[], own=[]).parts["code"]
    assert known != command_origin([["/usr/bin/true", "convert"]], without=[], own=[]).parts["code"]
    module = command_origin([[sys.executable, "-m", "navigator"]], without=[], own=[]).parts["code"]
    assert known == module
