"""Images for tests: a plain Debian 12, and the project's image built on it by the Dockerfile."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import docker

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.containers.engine import ContainerEngine
from deployment_toolkit.process import last_lines
from tests.container_engine import remove_folder
from tests.container_image import imported

DEBIAN = "debian:12"
DEBOOTSTRAP = ("debootstrap", "--variant=minbase", "bookworm")
_BASE = "localhost/wide-deep-debian"
# Not where Debian keeps its own, which its package ca-certificates makes anew.
CERTIFICATES = Path("/usr/local/share/host-certificates.crt")


@contextlib.contextmanager
def open_base_image(*, keep: bool) -> Iterator[str]:
    """Context with a minimal Debian 12 image; gives its name. debootstrap makes the image, and it is removed at the
    end, or kept until its certificates change or a month has passed. Without debootstrap or without root, Docker Hub's
    Debian image is used. pip in the image trusts the same certificates as this host."""
    if shutil.which("debootstrap") is None or os.getuid():
        with ContainerEngine.connect() as engine:
            engine.require_image(DEBIAN)
        yield DEBIAN
        return
    certificates = _certificates().read_bytes()
    made_of = hashlib.sha256(f"{DEBOOTSTRAP} {datetime.now(UTC):%Y-%m}".encode() + certificates).hexdigest()[:16]
    tag = made_of if keep else str(os.getpid())
    with ContainerEngine.connect() as engine:
        if engine.has_image(f"{_BASE}:{tag}"):
            yield f"{_BASE}:{tag}"
            return
    with contextlib.ExitStack() as image:
        with contextlib.ExitStack() as made:
            folder = Path(tempfile.mkdtemp(prefix="wd", dir="/var/tmp"))
            made.callback(remove_folder, folder)  # an interrupted debootstrap leaves a mounted /proc
            _debootstrap(folder)
            (folder / CERTIFICATES.relative_to("/")).write_bytes(certificates)
            folder.chmod(0o755)
            tar = made.enter_context(subprocess.Popen(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE))
            assert tar.stdout is not None
            environment = [f"PIP_CERT={CERTIFICATES}"]
            name = image.enter_context(imported(tar.stdout, f"{_BASE}:{tag}", environment, keep=keep))
        yield name


@contextlib.contextmanager
def open_project_image(base_image: str, *, keep: bool) -> Iterator[str]:
    """Context with the image that the project's Dockerfile builds on a base image; gives its name. The image is removed
    at the end, or kept: the engine builds a layer again only if the files that it is made of have changed."""
    name = f"localhost/wide-deep-project:{'kept' if keep else os.getpid()}"
    with ContainerEngine.connect() as engine:
        engine.build_image(ROOT / "Dockerfile", name, {"FROM_IMAGE_NAME": base_image})
    try:
        yield name
    finally:
        if not keep:
            with contextlib.closing(docker.from_env(timeout=600)) as client:
                client.images.remove(name, force=True)


def _debootstrap(folder: Path) -> None:
    with subprocess.Popen(
        [*DEBOOTSTRAP, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()  # until none of its processes holds the pipe
            raise
    assert process.returncode == 0, last_lines(said, 10)


def _certificates() -> Path:
    """File with the certificate authorities that this host trusts."""
    paths = ssl.get_default_verify_paths()
    candidates = (os.environ.get("PIP_CERT"), paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
    return next(Path(path) for path in candidates if path and Path(path).is_file())
