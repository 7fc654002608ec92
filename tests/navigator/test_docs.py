from __future__ import annotations

import re

import pytest

from deployment_toolkit.checkout import ROOT
from navigator.__main__ import main

DOCS = ROOT / "docs" / "model-navigator.md"


@pytest.mark.parametrize("name", ["convert", "triton-config-model"])
def test_navigator_page_has_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main([name, "--help"])
    listed = set(re.findall(r"--?[a-z][a-z-]*", capsys.readouterr().out.split("options:", 1)[1]))
    flags = {flag for flag in listed if flag.startswith("--") or flag in ("-n", "-p", "-o", "-v")} - {"--help"}
    told = set(re.findall(r"--?[a-z][a-z-]*", DOCS.read_text()))
    assert len(flags) > 25
    assert flags <= told
