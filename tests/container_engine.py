"""Docker-compatible engine of the tests: the machine's engine if one answers, else a podman service for the tests
alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.errors import ContainerError

PROGRAMS = ("podman", "runc", "setpriv")
INSTALL = "scripts/install_container_engine.sh, called by root, installs one for the tests"
# A file for the locks: what podman keeps in /dev/shm would be shared with the machine's own.
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
runtime = "runc"
lock_type = "file"
events_logger = "file"
tmp_dir = "{run}/tmp"
static_dir = "{storage}/libpod"
volume_path = "{storage}/volumes"
[network]
network_config_dir = "{storage}/networks"
"""
KEPT_IMAGES = Path(f"/var/tmp/wide-deep-test-images-{os.getuid()}")
# Containers, layers that no image needs any more, and images of a month ago.
_TIDYING = ("rm --all --force --time=0", "image prune --force", "image prune --force --all --filter=until=720h")
_START_S = 60.0
_STOP_S = 20.0


@contextlib.contextmanager
def open_engine() -> Iterator[bool]:
    """Context in which an engine answers at the address that the Docker SDK and the ``docker`` command use; gives True
    if images stay in it for later test runs. Skips the test with the reason if no engine answers and none can be
    started."""
    if _answers():
        yield False
        return
    reason = why_no_podman()
    if reason:
        pytest.skip(f"no container engine answers, and {reason}: {INSTALL}")
    with _images() as (images, kept), _podman_service(images) as address, pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_HOST", address)
        environment.setenv("DOCKER_BUILDKIT", "0")  # which podman has not
        yield kept


def _answers() -> bool:
    try:
        with ContainerEngine.connect():
            return True
    except ContainerError:
        return False


def why_no_podman() -> str | None:
    """Reason why podman cannot run here; None if it can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"{', '.join(missing)} can't be found"
    return "only root can run podman's" if os.getuid() else None


@contextlib.contextmanager
def _images() -> Iterator[tuple[Path, bool]]:
    """Folder of images, and True if it stays for later test runs. A second test run at the same time has a folder of
    its own, which is deleted at its end."""
    KEPT_IMAGES.mkdir(mode=0o700, exist_ok=True)
    with (KEPT_IMAGES / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            folder = Path(tempfile.mkdtemp(prefix="wd", dir="/var/tmp"))
            try:
                yield folder, False
            finally:
                remove_folder(folder)
        else:
            yield from _kept_images()


def _kept_images() -> Iterator[tuple[Path, bool]]:
    """The kept images, or none if the test run before this one was killed."""
    storage, complete = KEPT_IMAGES / "storage", KEPT_IMAGES / "complete"
    if storage.exists() and not complete.exists():
        remove_folder(storage)
    complete.unlink(missing_ok=True)
    # podman's database of containers, which names the folders of the run before; there are no containers.
    for database in ("libpod", "db.sql"):
        path = storage / database
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    yield storage, True
    complete.touch()


@contextlib.contextmanager
def _podman_service(images: Path) -> Iterator[str]:
    """Address of a podman service with separate storage: the machine's podman is not touched. Only images outlast
    it."""
    run, storage = Path(tempfile.mkdtemp(prefix="wd", dir="/run")), Path(tempfile.mkdtemp(prefix="wd", dir="/var/tmp"))
    try:
        (run / "containers.conf").write_text(CONFIGURATION.format(run=run, storage=storage))
        environment = {**os.environ, "CONTAINERS_CONF": str(run / "containers.conf"), "TMPDIR": str(storage)}
        podman = ["podman", "--root", str(images), "--runroot", str(run / "root")]
        address = f"unix://{run}/podman.sock"
        service = ["setpriv", "--pdeathsig=TERM", *podman, "system", "service", "--time=0", address]
        # Away from the terminal: at Ctrl-C it is still needed to remove what it runs.
        with (run / "log").open("wb") as log, subprocess.Popen(
            service, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        ) as process:  # fmt: skip
            try:
                _wait_for(address, process, run / "log")
                yield address
            finally:
                for command in _TIDYING:
                    subprocess.run([*podman, *command.split()], env=environment, stdout=log, stderr=log)
                process.terminate()
                _reap(process)
    finally:
        _end_monitors(storage)
        for folder in (run, storage):
            remove_folder(folder)


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DOCKER_HOST", address)
        while True:
            if _answers():
                return
            assert process.poll() is None, f"podman's service has ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"podman's service does not answer: {log.read_text()}"
            time.sleep(0.05)


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()


def _end_monitors(storage: Path) -> None:
    """Ends podman's monitors of commands in containers. Otherwise they wait five minutes before they clean up, and
    create the storage again."""
    monitors = [
        item for item in psutil.process_iter(["cmdline"]) if str(storage) in " ".join(item.info["cmdline"] or ())
    ]
    for monitor in monitors:
        with contextlib.suppress(psutil.NoSuchProcess):
            monitor.kill()
    psutil.wait_procs(monitors, timeout=_STOP_S)


def remove_folder(folder: Path) -> None:
    """Removes the folder and unmounts everything mounted in it."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in reversed([place for place in mounted if place.startswith(f"{folder}/")]):
        subprocess.run(["umount", "--lazy", place], check=True)
    shutil.rmtree(folder)
