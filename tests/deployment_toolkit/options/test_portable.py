from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from deployment_toolkit.bulk_scoring.options import ScoringOptions
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Format
from deployment_toolkit.options.command_line import DATALOADER, MODEL, CommandLine, read_command_line


def test_command_of_another_process_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ["--input-path", str(ROOT / "model.py"), "--input-type", "tf-keras", "--precision", "fp16"]
    argv += ["--dataloader", str(ROOT / "dataloader.py"), "--data-pattern", "rows/*.parquet"]
    argv += ["--output-dir", "scores", "--columns", "a", "b"]
    plugins = [DATALOADER, MODEL]
    given = read_command_line("", argv, [ScoringOptions], plugins)
    values = pickle.loads(pickle.dumps(given.from_anywhere.portable))
    made = CommandLine.from_values(values, [ScoringOptions], plugins)
    assert vars(made.args) == vars(given.from_anywhere.args)
    assert made.args.data_pattern == str(tmp_path / "rows" / "*.parquet")
    assert made.args.precision is given.args.precision and type(made.args.precision).__module__.startswith("plugin:")
    options = made.get(ScoringOptions)
    assert options.output_dir == tmp_path / "scores" and options.input_type is Format.TF_KERAS
    assert options.columns == ["a", "b"] and made.names(MODEL)
