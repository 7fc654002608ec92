"""Commands of the original as its README prints them: from the folder above a checkout named ``triton``, and from its
root without ``triton/``. Commands for Docker or a GPU fail at once. The others run to the end on small tables."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.results.performance import PERFORMANCE_COLUMNS
from tests.checkout import copy_checkout, run_block, server_by_hand
from tests.small_outbrain import small_outbrain_spec

PRINTED = Path(__file__).with_name("original_commands.txt")
HEADINGS = (
    "Quick Start Guide",
    "Clone Repository",
    "Start Triton Inference Server",
    "Setup Container",
    "Export Model",
    "Convert Model",
    "Deploy Model",
    "Triton Performance Offline Test",
    "Triton Performance Online Test",
)
COMMAND = re.compile(
    r"(?:NVIDIA [^:]+: )?((?:git clone|cd|mkdir|cp|source|python3?|model-navigator) .*|\./triton/.*)"
)  # some stand behind the GPU they are for
FETCHING = ("git clone", "cd DeepLearningExamples")
STEPS = ("Export Model", "Convert Model", "Deploy Model")
MEASUREMENTS = ("Triton Performance Offline Test", "Triton Performance Online Test")
SERVER = "python -m deployment_toolkit.triton_server --model-repository ${MODEL_REPOSITORY_PATH}"
# What a CPU can't do, or not in a test's time.
REPLACED = {
    "--engine-count-per-device gpu=2": "--engine-count-per-device cpu=2",
    "--batch-sizes 1 16384 32768 49152 65536 81920 98304 114688 131072": "--batch-sizes 1 64",
    "--batch-sizes 2048": "--batch-sizes 16",
    "--concurrency " + " ".join(map(str, range(8, 257, 8))): "--concurrency 8 16",
    "--measurement-request-count 100": "--measurement-request-count 5 --retries 0",
    "--measurement-request-count 500": "--measurement-request-count 5 --retries 0",
}
TOOLS = ("bash", "cat", "cp", "df", "dirname", "grep", "id", "mkdir", "python3", "stat", "tail", "tr")


@dataclass(frozen=True)
class Command:
    """A command, with all lines it is printed on, and the heading above it."""

    heading: str
    text: str


def read_commands(text: str) -> list[Command]:
    """Commands of the original's README, or of the list of them next to this file."""
    commands, heading = [], ""
    lines = iter(text.splitlines())
    for line in lines:
        stripped = line.strip().removeprefix("# ")
        heading = stripped if stripped in HEADINGS else heading
        found = COMMAND.fullmatch(stripped)
        if found:
            parts = [found[1]]
            while parts[-1].endswith("\\"):
                parts.append(next(lines))
            commands.append(Command(heading, "\n".join(parts)))
    return commands


COMMANDS = read_commands(PRINTED.read_text())


def _under(heading: str) -> str:
    """The only command of a chapter."""
    (command,) = [item.text for item in COMMANDS if item.heading == heading]
    return command


@dataclass(frozen=True)
class Form:
    """Folder of the commands: the folder above the checkout, or the checkout itself, without ``triton/``."""

    name: str
    in_root: bool

    def command(self, printed: str) -> str:
        """The command in the form for this folder."""
        return re.sub(r"(?<!\w)triton/", "", printed) if self.in_root else printed

    def folder(self, above: Path) -> Path:
        """Folder in which the command runs."""
        return above / "triton" if self.in_root else above


FORMS = (Form("as printed", False), Form("from the root", True))
each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def test_command_list_equals_the_original_readme() -> None:
    readme = os.environ.get("ORIGINAL_README")
    if not readme:
        pytest.skip("the original's README is not part of this project: ORIGINAL_README=its text compares the lists")
    assert read_commands(Path(readme).read_text()) == COMMANDS


def test_original_commands_are_all_run_except_the_download() -> None:
    seen = {item.text for item in COMMANDS}
    quick_start = {_quick_start(start) for start in ("mkdir", "cp")}
    steps = {_under(heading) for heading in (*STEPS, *MEASUREMENTS)}
    rest = seen - quick_start - steps - set(FOR_OTHER_HOSTS) - {"source ./triton/scripts/setup_environment.sh"}
    assert len(rest) == len(FETCHING)
    assert all(item.startswith(FETCHING) for item in rest)
    assert len(COMMANDS) == 22
    assert all(any(printed in item for item in steps) for printed in REPLACED)


def _quick_start(start: str) -> str:
    (command,) = [item.text for item in COMMANDS if item.text.startswith(f"{start} ")]
    return command


FOR_OTHER_HOSTS = sorted({item.text for item in COMMANDS if item.text.startswith(("./triton/scripts", "./triton/run"))})


@pytest.fixture
def bare_host(tmp_path: Path) -> dict[str, str]:
    """Environment variables of a machine without NVIDIA driver and Docker."""
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(found)
    return {"PATH": str(tmp_path / "bin")}


@each_form
@pytest.mark.parametrize("printed", FOR_OTHER_HOSTS)
def test_original_commands_for_gpu_or_docker_fail_at_once(
    printed: str, form: Form, bare_host: dict[str, str], tmp_path: Path
) -> None:
    above = tmp_path / "above"
    above.mkdir()
    (above / "triton").symlink_to(ROOT)
    done = subprocess.run(
        ["bash", "-c", form.command(printed)],
        cwd=form.folder(above),
        env=bare_host,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    needed = "needs Docker and there is no docker command" if "build.sh" in printed else "needs an NVIDIA GPU"
    assert needed in line
    assert "runner/start_CPU.sh" in line
    assert [path.name for path in above.iterdir()] == ["triton"]


@pytest.fixture(scope="module")
def outbrain(tmp_path_factory: pytest.TempPathFactory, write_parquet: Callable[..., Path]) -> Path:
    """Data like the result of the original's preprocessing, and a checkpoint: the Outbrain features with small
    tables."""
    from widedeep.model.checkpoint import save_checkpoint
    from widedeep.model.network import build_network
    from widedeep.model.network_description import NetworkDescription

    spec = small_outbrain_spec(50)
    widths = {feature.name: 4 for feature in (*spec.onehot, *spec.multihot)}
    folder = tmp_path_factory.mktemp("outbrain")
    write_parquet(folder / "data" / "valid" / "part_0.parquet", 500, spec=spec)
    (folder / "data" / "valid" / "feature_spec.yaml").write_text(spec.to_yaml())
    save_checkpoint(build_network(spec, widths, hidden_units=(16, 16)), folder / "checkpoint")
    description = NetworkDescription(spec, widths, (16, 16))
    (folder / "checkpoint" / "network.yaml").write_text(description.to_yaml())
    return folder


@pytest.fixture(scope="module")
def above(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder above a checkout named ``triton``, with installed requirements."""
    folder = tmp_path_factory.mktemp("above")
    checkout = copy_checkout(folder / "triton")
    (checkout / ".venv").symlink_to(sys.prefix)
    return folder


class _Terminal:
    """Runs the original's commands in one form, with what a CPU can do in a test's time."""

    def __init__(self, form: Form, above: Path, outbrain: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if name in ("HOME", "LANG", "TMPDIR")}
        own = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(above / "triton"), "HOST_OUTBRAIN_PATH": str(outbrain)}
        self.folder = form.folder(above)
        self._form, self._env = form, own | kept
        self._setup = form.command("source ./triton/scripts/setup_environment.sh\n")

    def run(self, printed: str) -> None:
        """Runs a printed command; it must succeed."""
        for old, new in REPLACED.items():
            printed = printed.replace(old, new)
        run_block(self._setup + self._form.command(printed), self.folder, self._env)

    def export(self) -> Path:
        """Copies data and checkpoint and exports the model. Returns the workspace."""
        for start in ("mkdir", "cp"):
            self.run(_quick_start(start))
        copied = "${CHECKPOINTS_DIR}/widedeep_tf2_amp_base_128k_nvtabular"
        self.run(f"mkdir {copied}\ncp -R ${{HOST_OUTBRAIN_PATH}}/checkpoint {copied}")
        self.run(_under("Export Model"))
        workspace = self.folder / "runner_workspace"
        assert (workspace / "shared_dir" / "exported_model.savedmodel" / "saved_model.pb").is_file()
        return workspace

    def server(self) -> AbstractContextManager[None]:
        """A server on the default ports."""
        return server_by_hand(f"bash -c '{self._setup.strip()} && exec {SERVER} \"$@\"' _", self.folder, self._env)


def test_original_steps_run_on_the_cpu(above: Path, outbrain: Path) -> None:
    terminal = _Terminal(FORMS[0], above, outbrain)
    workspace = terminal.export()
    terminal.run(_under("Convert Model"))
    with terminal.server():
        terminal.run(_under("Deploy Model"))
        for heading in MEASUREMENTS:
            terminal.run(_under(heading))
    assert (workspace / "shared_dir" / "converted_model" / "saved_model.pb").is_file()
    assert "max_batch_size: 131072" in (workspace / "model_store" / "WidenDeep" / "config.pbtxt").read_text()
    points = {"offline": [("1", "1"), ("64", "1")], "online": [("16", "8"), ("16", "16")]}
    for mode, expected in points.items():
        with (workspace / "shared_dir" / f"triton_performance_{mode}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["Batch"], row["Concurrency"]) for row in rows] == expected
        assert list(rows[0]) == [column.name for column in PERFORMANCE_COLUMNS]
        assert all(float(row["Inferences/Second"]) > 0 for row in rows)


def test_original_steps_start_from_the_root_too(above: Path, outbrain: Path) -> None:
    """Later steps from the root are those of docs/step-by-step.md, which its test runs."""
    _Terminal(FORMS[1], above, outbrain).export()
