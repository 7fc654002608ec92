from __future__ import annotations

from pathlib import Path

import pytest

import deployment_toolkit.sameness.code
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.sameness.code import code_digest

SOURCES = {
    "script.py": "def main():\n    from toolkit.rooms.first import work\n",
    "toolkit/__init__.py": "",
    "toolkit/rooms/__init__.py": "",
    "toolkit/rooms/first.py": "TABLE = 'toolkit.late.second:Class'\n",
    "toolkit/rooms/data/sources.cpp": "int x;\n",
    "toolkit/rooms/build/key/library.so": "",
    "toolkit/late/__init__.py": "",
    "toolkit/late/second.py": "import toolkit.rooms.first\n",
    "toolkit/unused.py": "",
    "notes.py": "",
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(deployment_toolkit.sameness.code, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SOURCES)
def test_digest_follows_what_a_program_can_import(checkout: Path, name: str) -> None:
    before = code_digest([checkout / "script.py"])
    (checkout / name).write_text(f"{SOURCES[name]} ")
    deployment_toolkit.sameness.code._imported.cache_clear()
    used = name not in ("toolkit/unused.py", "notes.py", "toolkit/rooms/build/key/library.so")
    assert (code_digest([checkout / "script.py"]) != before) == used


def test_scripts_of_the_project_depend_on_what_they_load_late() -> None:
    """The registry names the modules of the formats as texts."""
    found: set[Path] = set()
    pending = [ROOT / "export_model.py"]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += deployment_toolkit.sameness.code._imported(file)
    names = {str(file.relative_to(ROOT)) for file in found}
    assert "deployment_toolkit/library/tensorflow/session.py" in names
    assert "deployment_toolkit/triton_performance_runner/perf_analyzer.py" not in names
