"""Roll-outs on a real server, under load over both protocols."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deployment_toolkit.core import LoadMethod
from deployment_toolkit.errors import (
    BackendError,
    DataError,
    DeploymentError,
    ModelError,
    ServerError,
    ToleranceError,
    UsageError,
)
from deployment_toolkit.process import child
from deployment_toolkit.rollout.__main__ import main
from deployment_toolkit.rollout.record import RolloutStep, Site
from deployment_toolkit.server_access.ports import choose_free
from deployment_toolkit.server_access.url import ServerUrl
from deployment_toolkit.triton_server.local import local_server
from deployment_toolkit.triton_server.remote import TritonServer
from tests.offset_models import (
    NAME,
    VersionClients,
    add_compiled_offset_model,
    add_offset_model,
    offset_config,
    write_reference,
)

OLD, NEW = 1000.0, 2000.0
LEAST_REQUESTS = 5000
in_cpp_host = pytest.mark.parametrize("rollout", [add_compiled_offset_model], indirect=True, ids=["C++ host"])
WARMUP = """
model_warmup {
  name: "one"
  batch_size: 1
  inputs { key: "x" value { data_type: TYPE_FP32 dims: [ 1 ] input_data_file: "row" } }
}
"""


@dataclass
class Rollout:
    """The commands for a model on a server."""

    server: TritonServer
    repository: Path
    folder: Path
    add: Callable[[Path, float], Path] = add_offset_model
    url: str = ""
    clients: list[VersionClients] = field(default_factory=list)

    def argv(self, command: str, *options: object) -> list[str]:
        url = self.url or self.server.http_url
        place = ["--model-repository", self.repository, "--model-name", NAME, "--server-url", url]
        return [command, *map(str, [*place, *options])]

    def __call__(self, command: str, *options: object) -> None:
        main(self.argv(command, *options))

    def stage(self, candidate: Path) -> None:
        self("stage", "--candidate", candidate)

    def gate(self, reference: Path, *options: object) -> None:
        self("gate", "--reference-dump-dir", reference, *options)

    @property
    def record(self) -> Path:
        return self.repository.with_name(f"{self.repository.name}.rollout") / NAME / "state.json"

    @property
    def step(self) -> str:
        return json.loads(self.record.read_text())["step"] if self.record.exists() else "none"

    def load(self, *versions: str, pause_s: float = 0.01) -> VersionClients:
        """Starts clients of the model's versions as they are before a roll-out. Without a pause they take what the
        cores can give."""
        self.clients.append(VersionClients(self.server, versions, [OLD], pause_s=pause_s))
        return self.clients[-1]

    def start_anew(self) -> None:
        """Leaves the server as it is after its start: without a model."""
        for name in self.server.ready_models():
            self.server.unload_model(name)
            self.server.wait_unloaded(name, 60)

    def files(self) -> set[str]:
        """Everything in the repository and beside it."""
        return {
            str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if "__pycache__" not in path.parts
        }


@pytest.fixture(scope="module")
def server_and_repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TritonServer, Path]]:
    folder = tmp_path_factory.mktemp("rollout")
    (folder / "models").mkdir()
    with local_server(folder / "models", log_path=folder.with_name(f"{folder.name}.log")) as server:
        yield server, folder / "models"


@pytest.fixture
def rollout(server_and_repository: tuple[TritonServer, Path], request: pytest.FixtureRequest) -> Iterator[Rollout]:
    """The model ``offset``, version 1, on a server; in the Python backend, or as the parameter makes it."""
    server, repository = server_and_repository
    rollout = Rollout(server, repository, repository.parent, getattr(request, "param", add_offset_model))
    rollout.add(repository, OLD)
    server.load_model(NAME, 60)
    yield rollout
    for clients in rollout.clients:
        clients.end()
    rollout.start_anew()
    for item in repository.parent.iterdir():
        if item != repository:
            shutil.rmtree(item)
    for item in repository.iterdir():
        shutil.rmtree(item)


def add_warmup(model: Path, name: str) -> None:
    """Adds a file with a row for the warm-up to a model."""
    (model / "warmup").mkdir()
    (model / "warmup" / name).write_bytes(np.float32(1).tobytes())


@pytest.fixture
def candidate(rollout: Rollout, tmp_path: Path) -> Path:
    return rollout.add(tmp_path / "new", NEW)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return write_reference(tmp_path / "reference", NEW)


@pytest.mark.parametrize(
    ("rollout", "least"),
    [(add_compiled_offset_model, LEAST_REQUESTS), (add_offset_model, LEAST_REQUESTS // 5)],
    indirect=["rollout"],
    ids=["C++ host", "Python backend"],
)
def test_rollout_loses_no_request(
    rollout: Rollout, least: int, candidate: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rollout.files()
    clients = rollout.load("", "", "", pause_s=0)
    pinned = rollout.load("1")
    clients.wait(least // 10)
    for ending in ("back", "finish"):
        rollout.stage(candidate)
        rollout.gate(reference)
        clients.wait(least // 10)
        clients.expect(OLD, NEW)
        rollout("promote")
        clients.expect(NEW)
        assert rollout.server.ready_models() == [NAME], "the candidate is gone"
        clients.wait(least // 5)
        pinned.wait(least // 20)
        clients.expect(OLD, NEW) if ending == "back" else pinned.end()
        rollout(ending)
        clients.expect(OLD if ending == "back" else NEW)
        version = 1 if ending == "back" else 2
        assert rollout.server.model_config(NAME)["version_policy"] == {"specific": {"versions": [version]}}
        clients.wait(least // 5)
        if ending == "back":
            assert rollout.files() == before
    clients.end()
    assert (clients.lost, clients.wrong, pinned.lost, pinned.wrong) == ([], [], [], [])
    assert clients.count + pinned.count >= least
    assert set(clients.answered) == {("", OLD), ("", NEW)} and set(pinned.answered) == {("1", OLD)}
    assert [path.name for path in sorted((rollout.repository / NAME).iterdir())] == ["2", "config.pbtxt"]
    assert rollout.step == "none"
    rollout("status")
    told = capsys.readouterr().out.splitlines()
    assert told[-3] == f"{NAME} serves version 2, version 1 is removed"
    assert told[-1] == f"server: {NAME} serves version 2, {NAME}-candidate none"


@in_cpp_host
def test_server_that_was_started_anew_gets_its_models_again(
    rollout: Rollout, candidate: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def serves(command: Callable[[], None], *names: str, version: str) -> None:
        rollout.start_anew()
        command()
        assert rollout.server.ready_models() == list(names)
        rollout.server.require_model(NAME, version)

    def stage() -> None:
        rollout.stage(candidate)

    both = (NAME, f"{NAME}-candidate")
    rollout.start_anew()
    with pytest.raises(ModelError, match="serves version none of model offset, its .* names 1: deploy the model as it"):
        stage()
    rollout.server.load_model(NAME, 60)
    stage()
    serves(stage, *both, version="1")
    serves(lambda: rollout.gate(reference), *both, version="1")
    serves(lambda: rollout("back"), NAME, version="1")
    stage()
    rollout.gate(reference)
    serves(lambda: rollout("promote"), NAME, version="1")
    serves(lambda: rollout("promote"), NAME, version="2")
    rollout.start_anew()
    rollout("status")
    assert "server: version 1 and 2 of offset should be served: one of the next" in capsys.readouterr().out
    rollout("finish")
    rollout.server.require_model(NAME, "2")


@in_cpp_host
def test_gate_refuses_a_wrong_model(rollout: Rollout, candidate: Path, tmp_path: Path) -> None:
    before = rollout.files()
    clients = rollout.load("")
    rollout.stage(candidate)
    wrong = write_reference(tmp_path / "other", NEW + 1)
    with pytest.raises(ToleranceError, match="version 2 of model offset has not passed the gate, version 1 is served"):
        rollout.gate(wrong)
    with pytest.raises(UsageError, match="the roll-out of model offset is staged, not gated or "):
        rollout("promote")
    rollout.gate(wrong, "--atol", "2")
    with pytest.raises(ToleranceError):  # what passed once counts no more
        rollout.gate(wrong)
    assert rollout.step == RolloutStep.STAGED
    clients.wait(100)
    rollout("back")
    assert rollout.files() == before
    assert rollout.server.ready_models() == [NAME]


@in_cpp_host
def test_gate_asks_a_dataloader_and_computes_metrics(rollout: Rollout, candidate: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path / "reference", NEW, inputs=False)
    rollout.stage(candidate)
    with pytest.raises(DataError, match="has no inputs, so its rows can't be sent again: .* or give the dataloader"):
        rollout.gate(reference)
    (tmp_path / "rows.py").write_text(
        "import numpy as np\n"
        "def get_dataloader_fn(rows: int = 400):\n"
        "    parts = [np.arange(first, first + 50) for first in range(0, rows, 50)]\n"
        "    x = [ids.astype(np.float32)[:, None] for ids in parts]\n"
        "    y = [(part > 100).astype(np.int32) for part in x]\n"
        "    return lambda: ((ids, {'x': a}, {'clicked': b}) for ids, a, b in zip(parts, x, y))\n"
    )
    (tmp_path / "sums.py").write_text(
        "class MetricsCalculator:\n"
        "    sum = 0.0\n"
        "    def update(self, ids, y_pred, x, y_real):\n"
        "        self.sum += float((y_pred['y'] * y_real['clicked']).sum())\n"
        "    @property\n"
        "    def metrics(self):\n"
        "        return {'sum': self.sum}\n"
    )
    rows = ["--dataloader", tmp_path / "rows.py"]
    limited = [*rows, "--max-metric-loss", "sum=100"]
    with pytest.raises(UsageError, match="--max-metric-loss limits a metric: give --metrics"):
        rollout.gate(reference, *limited)
    higher = write_reference(tmp_path / "higher", NEW + 1, inputs=False)
    with pytest.raises(ToleranceError, match="sum is 672750.000000, more than 100 worse than 673049.000000"):
        rollout.gate(higher, *limited, "--metrics", tmp_path / "sums.py", "--atol", "2")
    rollout.gate(reference, *limited, "--metrics", tmp_path / "sums.py")
    rollout("promote")  # asks the rows of the gate again, without the dataloader
    assert rollout.step == RolloutStep.PROMOTED
    rollout("back")


@pytest.mark.parametrize(
    ("behaviour", "command", "error", "message"),
    [
        ({"breaks": "candidate"}, "stage", ServerError, "could not be loaded: .*a candidate is broken"),
        ({"breaks": "promoted"}, "promote", ServerError, "version 1 is served as before: .*a promoted is broken"),
        (
            {"promoted_offset": 1.0},
            "promote",
            ToleranceError,
            "version 1 is served as before: promoted: 400 of 400",
        ),
    ],
)
def test_failed_step_leaves_the_old_version_serving(
    rollout: Rollout,
    tmp_path: Path,
    reference: Path,
    behaviour: dict[str, Any],
    command: str,
    error: type[DeploymentError],
    message: str,
) -> None:
    before = rollout.files()
    clients = rollout.load("", "1")
    candidate = add_offset_model(tmp_path / "bad", NEW, **behaviour)
    if command == "promote":
        rollout.stage(candidate)
        rollout.gate(reference)
        clients.expect(OLD, NEW, 1.0)
    with pytest.raises(error, match=message) as raised:
        rollout(*([command] if command == "promote" else [command, "--candidate", candidate]))
    assert "\n" not in str(raised.value)
    clients.expect(OLD)
    clients.wait(100)
    assert rollout.step == ("gated" if command == "promote" else "none")
    if command == "promote":
        rollout("back")
    clients.wait(100)
    assert rollout.files() == before


def test_other_configuration_replaces_the_old_version_alone(rollout: Rollout, tmp_path: Path, reference: Path) -> None:
    before = rollout.files()
    rollout.url = rollout.server.grpc_url
    clients = rollout.load("")
    candidate = add_offset_model(tmp_path / "wider", NEW, config=offset_config((0, 2000)) + WARMUP)
    add_warmup(candidate, "row")
    rollout.stage(candidate)
    rollout.gate(reference)
    with pytest.raises(
        ModelError, match="version 1 of .* can't be served beside version 2, .* differ in parameters: give"
    ):
        rollout("promote")
    clients.expect(OLD, NEW)
    rollout("promote", "--alone")
    clients.expect(NEW)
    clients.wait(100)
    with pytest.raises(ServerError, match="has no version 1"):
        rollout.server.require_model(NAME, "1")
    clients.expect(OLD, NEW)
    rollout("back")
    clients.expect(OLD)
    clients.wait(100)
    assert rollout.files() == before


def killed(rollout: Rollout, log: Path, at: Callable[[], bool], command: str, *options: object) -> None:
    """Starts a command as a process and ends it by SIGKILL at some point."""
    argv = [sys.executable, "-m", "deployment_toolkit.rollout", *rollout.argv(command, *options)]
    deadline = time.monotonic() + 60
    with child(argv, stdout=log) as process:
        while not at():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL


def die_while_writing(folder: Path) -> None:
    """Has a process write a file into the folder until it is killed."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from deployment_toolkit.files.atomic import replace_when_complete\n"
        "with replace_when_complete(Path(sys.argv[1])) as beside:\n"
        "    beside.touch()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(folder / "row")]).returncode == -signal.SIGKILL
    assert list(folder.glob(".row.*.partial"))


def test_killed_rollout_goes_on(
    rollout: Rollout, tmp_path: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clients = rollout.load("")
    candidate = add_offset_model(tmp_path / "slow", NEW, load_s=0.5, config=offset_config() + WARMUP)
    add_warmup(candidate, "row")
    add_warmup(rollout.repository / NAME, "row_of_before")
    stage = ["--candidate", candidate]
    gate = ["--reference-dump-dir", reference]
    log = tmp_path / "log"
    killed(rollout, log, lambda: rollout.step == "staging", "stage", *stage)
    rollout("status")
    assert "next: stage with the same candidate, back" in capsys.readouterr().out
    rollout("stage", *stage)
    killed(rollout, log, (rollout.record.parent / "gate").exists, "gate", *gate)
    assert rollout.step == "staged"
    rollout("gate", *gate)
    clients.expect(OLD, NEW)
    killed(rollout, log, lambda: rollout.step == "promoting", "promote")
    rollout("promote")
    clients.expect(NEW)
    killed(rollout, log, lambda: rollout.step == "finishing", "finish")
    with pytest.raises(UsageError, match="the roll-out of model offset is finishing, not "):
        rollout("back")
    die_while_writing(rollout.repository / NAME / "warmup")
    rollout("finish")
    clients.wait(100)
    assert [path.name for path in sorted((rollout.repository / NAME).iterdir())] == ["2", "config.pbtxt", "warmup"]
    assert [path.name for path in (rollout.repository / NAME / "warmup").iterdir()] == ["row"]
    assert rollout.server.ready_models() == [NAME]


def test_killed_rollout_goes_back(
    rollout: Rollout, tmp_path: Path, reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rollout.files()
    clients = rollout.load("", "1")
    candidate = add_offset_model(tmp_path / "slow", NEW, load_s=0.5)
    log = tmp_path / "log"
    killed(rollout, log, lambda: rollout.step == "staging", "stage", "--candidate", candidate)
    rollout("back")
    assert rollout.files() == before
    rollout.stage(candidate)
    rollout.gate(reference)
    clients.expect(OLD, NEW)
    killed(rollout, log, lambda: rollout.step == "promoting", "promote")
    rollout("status")
    assert "next: promote, back" in capsys.readouterr().out
    killed(rollout, log, lambda: rollout.step == "returning", "back")
    rollout("back")
    clients.expect(OLD)
    clients.wait(100)
    assert rollout.files() == before
    assert rollout.server.ready_models() == [NAME]


def test_commands_tell_what_is_wrong(
    rollout: Rollout, candidate: Path, reference: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (rollout.record.parent / "gate").mkdir(parents=True)  # as of a command that was killed when it had ended
    with pytest.raises(UsageError, match="no roll-out of model offset is under way"):
        rollout("back")
    assert not rollout.record.parent.exists()
    rollout("status")
    assert capsys.readouterr().out.splitlines()[-1] == f"server: {NAME} serves version 1, {NAME}-candidate none"
    with pytest.raises(UsageError, match=r"is no model of a repository, it has no config.pbtxt"):
        rollout.stage(tmp_path)
    native = offset_config().replace('"python"', '"openvino"')
    with pytest.raises(
        BackendError, match="has no backend for model offset-candidate: deploy .* with --host python, as"
    ):
        rollout.stage(add_offset_model(tmp_path / "native", NEW, config=native))
    rollout.stage(candidate)
    with pytest.raises(UsageError, match="a roll-out of model offset is staged, of .*/new/offset: finish it"):
        rollout.stage(add_offset_model(tmp_path / "newer", NEW + 1))
    (rollout.repository / f"{NAME}-candidate" / "2" / "behaviour.json").write_text('{"offset": 1}')
    with pytest.raises(ModelError, match=r"behaviour.json is not the file that was deployed"):
        rollout.gate(reference)
    (nowhere,) = choose_free({"http": None}).values()
    rollout.url = f"http://127.0.0.1:{nowhere}"
    with pytest.raises(ServerError, match="what is served is not known: no server answers at"):
        rollout("status")
    assert "next: gate, back" in capsys.readouterr().out
    with pytest.raises(ServerError, match="no server answers at"):
        rollout("back")
    rollout.url = ""
    shutil.rmtree(rollout.repository / f"{NAME}-candidate")
    rollout("back")
    assert rollout.server.ready_models() == [NAME]
    shutil.copytree(candidate, rollout.repository / f"{NAME}-candidate")
    with pytest.raises(UsageError, match="there is a model offset-candidate already"):
        rollout.stage(candidate)


@in_cpp_host
def test_one_command_at_a_time(rollout: Rollout, candidate: Path) -> None:
    site = Site(rollout.repository, NAME, ServerUrl.parse(rollout.server.http_url), 60.0)
    with (
        site.lock(),
        pytest.raises(UsageError, match=r"another command is at work on the roll-out of model offset \(proc"),
    ):
        rollout.stage(candidate)


def test_server_that_loads_nothing_by_request_is_refused(tmp_path: Path) -> None:
    add_compiled_offset_model(tmp_path / "models", OLD)
    candidate = add_compiled_offset_model(tmp_path / "new", NEW)
    with local_server(tmp_path / "models", log_path=tmp_path / "log", load_method=LoadMethod.POLL) as server:
        rollout = Rollout(server, tmp_path / "models", tmp_path)
        server.load_model(NAME, 60)
        with pytest.raises(ServerError, match="loads no model by request: start it with --model-control-mode=explicit"):
            rollout.stage(candidate)
        assert [path.name for path in (tmp_path / "models").iterdir()] == [NAME]
        assert rollout.step == "none"
