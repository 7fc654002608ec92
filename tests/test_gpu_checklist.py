"""Commands of docs/gpu-checklist.md. Without a GPU and their files, the tests check that each option is valid."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from deployment_toolkit import hardware
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DeploymentError

TEXT = (ROOT / "docs" / "gpu-checklist.md").read_text()
PROGRAMS = {"model-navigator": "navigator.__main__"}


def commands() -> list[list[str]]:
    """Program and options of each command of the project. The options in the rows of a table are added to the command
    they belong to."""
    blocks = re.findall(r"^```bash\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    found = [re.search(r"(?:python |^)(?:\.venv/bin/)?(model-navigator|\w+\.py) .*", line) for line in lines]
    argvs = [shlex.split(match[0].partition(match[1])[2].replace("$precision", "fp16")) for match in found if match]
    programs = [match[1] for match in found if match]
    asked = [[program, *argv] for program, argv in zip(programs, argvs, strict=True)]
    (open_end,) = [argv for argv in asked if argv[-1] == "…"]
    rows = re.findall(r"^\| (?:.*?: )?(?:the same with )?`(--[^`]*)`", TEXT, flags=re.MULTILINE)
    asked.remove(open_end)
    path = ["--model-path", "shared/converted_fp16.plan"]
    return asked + [[*open_end[:-1], *path, *shlex.split(row)] for row in rows]


def test_gpu_checklist_has_commands() -> None:
    assert [argv[0] for argv in commands()].count("model-navigator") >= 8


@pytest.mark.parametrize("argv", commands(), ids=lambda argv: " ".join(argv)[-60:])
def test_gpu_checklist_has_valid_options(argv: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "gpu_names", lambda: [])
    program, *options = [str(ROOT / part) if part in ("dataloader.py", "metrics.py") else part for part in argv]
    with pytest.raises(DeploymentError) as failure:
        importlib.import_module(PROGRAMS.get(program, program.removesuffix(".py"))).main(options)
    assert "see --help" not in str(failure.value), "the command line is refused"
