from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.operations import as_table, main
from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.library.openvino.session import OpenVinoFromOnnx
from tests.benchmarks.bars.test_command import SPEC
from tests.conftest import TinyOnnx, WriteParquet


def test_operations_of_a_model_are_timed(
    tmp_path: Path, tiny_onnx: TinyOnnx, write_parquet: WriteParquet, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.openvino").mkdir()
    OpenVinoFromOnnx().convert(tiny_onnx(tmp_path / "model.onnx"), tmp_path / "tiny.openvino")
    write_parquet(tmp_path / "rows.parquet", 300, spec=SPEC)
    (tmp_path / "spec.yaml").write_text(SPEC.to_yaml())
    argv = ["--input-path", str(tmp_path / "tiny.openvino"), "--dataloader", str(ROOT / "dataloader.py")]
    argv += ["--data-pattern", str(tmp_path / "*.parquet"), "--feature-spec", str(tmp_path / "spec.yaml")]

    main([*argv, "--rows-per-call", "100", "--calls", "3"])

    printed = capsys.readouterr().out
    assert printed.startswith("| operation, batch 100 | ms | share |")
    assert re.search(r"^\| (Gather|EmbeddingBagPackedSum), \S+ \| \d\.\d+ \|", printed, re.M)
    with pytest.raises(DataError, match="fewer than 400 rows"):
        main([*argv, "--rows-per-call", "400"])


def test_operations_with_little_time_share_one_line() -> None:
    table = as_table({"MatMul": 9.0, "Gather": 0.96, "Add": 0.03, "Less": 0.01}, 4096).splitlines()
    assert table[2:] == [
        "| MatMul | 9.000 | 90.0% |",
        "| Gather | 0.960 | 9.6% |",
        "| others | 0.040 | 0.4% |",
        "| all | 10.000 | 100 % |",
    ]
