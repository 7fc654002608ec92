"""Every reader of a file takes a damaged one as it is, or says in one line what is wrong: no traceback, and little time
and memory. The damage is the same in every run."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.core import Batch, Format, ModelSpec, Prediction, TensorSpec
from deployment_toolkit.deploying.deployment import Deployment
from deployment_toolkit.deploying.model_config import config_text, read_config
from deployment_toolkit.errors import DeploymentError
from deployment_toolkit.files.archive import unpack
from deployment_toolkit.library.base import SPEC_FILE, stored_spec
from deployment_toolkit.results.performance import read_with_parameters
from deployment_toolkit.rows.dump import Dump, DumpFormat, DumpOptions, DumpWriter
from navigator.other_converter.converter import read_summary
from navigator.results_keys import note_image
from navigator.reuse import Ledger
from runner.compare.comparison import Comparison
from runner.config.run import load_config
from runner.kept_run import read_kept_run
from runner.kept_run.published_results import read_published
from runner.kept_run.record import read_task
from runner.search.results import read_search
from tests.limits import few_resources
from tests.mutations import damaged
from widedeep.features.outbrain import embedding_widths, outbrain_spec
from widedeep.features.spec import load_feature_spec
from widedeep.model.embedding_sizes import load_embedding_sizes
from widedeep.model.network_description import NetworkDescription, load_network_description

COPIES = 60
SPEC = ModelSpec((TensorSpec("a", "int32", (3,), (0, 9)),), (TensorSpec("y", "float32", (1,)),))
NUMBERS = (b"-1", b"99999999999", b"1e999", b"nan", b"9" * 5000)
YAML = (
    *NUMBERS,
    b"&a ",
    b"*a",
    b"[",
    b"{",
    b": ",
    b"- ",
    b'"',
    b"!!binary ",
    b"<<: *a\n",
    b"\t",
    b"null",
    b"2024-02-30",
)
CSV = (*NUMBERS, b",", b'"', b"\n", b"\r", b"\0", b'"' + b"a" * 200_000)
JSON = (*NUMBERS, b"[", b"{", b'"', b"null", b"NaN", b'"<U999999999"', b'"O"', b'"datetime64"', b"[" * 100_000)
PROTOBUF = (*NUMBERS, b"{", b"}", b"[", b":", b'"', b"#", b"input {" * 1000)
NPY = (*NUMBERS, b"(", b"'O'", b"'<U99999999'", b"(4611686018427387904, 4)", b"[('a', '<f4')]")
KEPT = ROOT / "reports" / "cpu_2_cores_epyc"
RESULTS = [{"name": "a", "status": {"message": "made"}}, {"name": "b", "status": {"message": "made"}}]


@dataclass(frozen=True)
class Reader:
    """A reader of the file ``name``; ``make`` writes a good one below a folder, in which there may be others."""

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    words: Sequence[bytes]


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content)


def kept(pattern: str) -> Callable[[Path], object]:
    return lambda path: shutil.copyfile(next(KEPT.glob(pattern)), path)


def kept_run(path: Path) -> None:
    for name in ("task.yaml", "correctness_summary.csv", "triton_performance_online_summary.csv"):
        shutil.copyfile(KEPT / name, path.parent / name)


def compared(path: Path) -> None:
    run = read_kept_run(path.parent)
    _ = Comparison.of([run, run]).cells


def dump(dump_format: DumpFormat) -> Callable[[Path], object]:
    def make(path: Path) -> None:
        folder = path.parents[1] if dump_format is DumpFormat.NPY else path.parent
        with DumpWriter(DumpOptions(folder, True, True, dump_format)) as writer:
            x = {"a": np.arange(6, dtype=np.int32).reshape(3, 2)}
            y = {"y": np.ones((3, 1), np.float32)}
            writer.write(Prediction(Batch(np.arange(3), x, y), y))

    return make


def read_dump(folder: Path) -> None:
    found = Dump(folder)
    found.requests.rows_with(0)
    for _ in found.predictions():
        pass


def archive(path: Path) -> None:
    (path.parent / "ckpt.index").write_bytes(bytes(range(256)) * 8)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            zipped.write(path.parent / "ckpt.index", "folder/ckpt.index")
        return
    mode: Any = "w" if path.suffix == ".tar" else f"w:{path.suffix[1:]}"
    with tarfile.open(path, mode) as tarred:
        tarred.add(path.parent / "ckpt.index", "folder/" + "long" * 40)


def unpacked(path: Path) -> None:
    shutil.rmtree(path.parent / "unpacked", ignore_errors=True)
    unpack(path, path.parent / "unpacked")


def ledger(path: Path) -> None:
    found = Ledger(path)
    found.recall("a", {"x": 1})
    found.note("b", {"x": 1}, 2)


READERS = {
    "run": Reader("run.yaml", text((ROOT / "tests" / "small_run.yaml").read_text()), load_config, YAML),
    "task": Reader("task.yaml", kept("task.yaml"), read_task, YAML),
    "record of a kept run": Reader("task.yaml", kept_run, compared, YAML),
    "correctness of a kept run": Reader("correctness_summary.csv", kept_run, compared, CSV),
    "features": Reader("spec.yaml", text(outbrain_spec().to_yaml()), load_feature_spec, YAML),
    "network": Reader(
        "network.yaml",
        text(NetworkDescription(outbrain_spec(), embedding_widths(outbrain_spec())).to_yaml()),
        load_network_description,
        YAML,
    ),
    "widths": Reader(
        "sizes.json",
        text('{"ad_id": 8,\n\t"campaign_id": 4}'),
        lambda path: load_embedding_sizes(path, outbrain_spec()),
        JSON,
    ),
    "signature": Reader(
        str(SPEC_FILE), text(yaml.safe_dump(SPEC.to_dict())), lambda path: stored_spec(path.parents[1]), YAML
    ),
    "conversions": Reader("results.yaml", text(yaml.safe_dump(RESULTS)), lambda path: note_image(path, "image"), YAML),
    "ledger": Reader("ledger.yaml", text("a:\n  from: {x: 1}\n  outcome: {ok: true}\n"), ledger, YAML),
    "summary": Reader(
        "model.kept/summary.json",
        text('{"runner": "x",\n"comparison": {"y": [1e-5, 0]},\n"profile": [1, 2.5]}'),
        lambda path: read_summary(path.parents[1] / "model.onnx"),
        JSON,
    ),
    "performance": Reader("a.csv", kept("*offline_summary.csv"), read_with_parameters, CSV),
    "search": Reader(
        "search.csv", lambda path: shutil.copyfile(next(ROOT.glob("reports/*/*/search.csv")), path), read_search, CSV
    ),
    "published": Reader(
        "b.csv", lambda path: shutil.copyfile(ROOT / "reports" / "published_results.csv", path), read_published, CSV
    ),
    "configuration": Reader(
        "config.pbtxt", text(config_text(Deployment("m", SPEC, Format.ONNX))), read_config, PROTOBUF
    ),
    "dump, npy": Reader("d/inputs/a.npy", dump(DumpFormat.NPY), lambda path: read_dump(path.parents[1]), NPY),
    "dump, json": Reader(
        "d/inputs-000000000000.json", dump(DumpFormat.JSON), lambda path: read_dump(path.parent), JSON
    ),
    "requests": Reader("d/requests.json", dump(DumpFormat.JSON), lambda path: read_dump(path.parent), JSON),
    **{
        f"archive{end}": Reader(f"a{end}", archive, unpacked, (b"\x80\0\0\0\0\0\0\1\0\0\0\0", b"7" * 11, b"PK\5\6"))
        for end in (".tar", ".gz", ".bz2", ".xz", ".zip")
    },
}


@pytest.mark.parametrize("case", READERS)
def test_damaged_file_is_told_in_one_line(case: str, tmp_path: Path) -> None:
    reader = READERS[case]
    path = tmp_path / reader.name
    path.parent.mkdir(parents=True, exist_ok=True)
    reader.make(path)
    content = path.read_bytes()
    reader.read(path)
    told = 0
    for copy in damaged(content, COPIES, reader.words):
        path.write_bytes(copy)
        with few_resources():
            try:
                reader.read(path)
            except DeploymentError as error:
                assert "\n" not in str(error).strip()
                told += 1
    assert told or case in ("ledger", "requests"), "no copy was damaged"
