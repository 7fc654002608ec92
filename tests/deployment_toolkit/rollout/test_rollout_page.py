"""The commands of docs/rollout.md are ones that the roll-out takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import UsageError
from deployment_toolkit.rollout.__main__ import COMMANDS, main

TEXT = (ROOT / "docs" / "rollout.md").read_text()
(SITE,) = re.findall(r'^SITE="(.*)"$', TEXT, flags=re.MULTILINE)
LINES = re.findall(r"^python -m deployment_toolkit\.rollout ([^#\n]*)", TEXT, flags=re.MULTILINE)


@pytest.mark.parametrize("line", LINES)
def test_command_of_the_page_is_taken(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="there is no model WidenDeep in .*model_store .*deploy a first one"):
        main(shlex.split(line.replace("$SITE", SITE)))


def test_page_explains_every_command() -> None:
    assert re.findall(r"^\| `(\w+)` \| ", TEXT, flags=re.MULTILINE) == list(COMMANDS)
    assert {line.split()[0] for line in LINES} | {"back", "status"} == set(COMMANDS)
