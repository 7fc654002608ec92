"""Container image for tests, made of this host's files: Python with numpy, a shell and the wheel's tritonserver, and on
top of them this checkout's modules. It needs no registry and no network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import sysconfig
import tarfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import IO

import docker

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.triton_server.installation import Installation

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
PYTHON = f"python{VERSION}"
LIBRARY = f"lib{PYTHON}.so.1.0"
PACKAGES = f"opt/python/lib/{PYTHON}/site-packages"
ENVIRONMENT = ("PATH=/opt/python/bin:/bin", "PYTHONHOME=/opt/python", "LD_LIBRARY_PATH=/opt/python/lib")
TRITONSERVER = """#!/opt/python/bin/python3
from deployment_toolkit.triton_server.embedded import cli
cli()
"""
_NAME, _HOST_FILES = "localhost/wide-deep-test", "localhost/wide-deep-host-files"
_LEFT_OUT = [
    "__pycache__",
    "test",
    "tests",
    "site-packages",
    "dist-packages",
    "config-*",
    "idlelib",
    "ensurepip",
    "lib2to3",
    "_tkinter.*",
    "f2py",
]


@contextlib.contextmanager
def open_test_image(*, keep: bool) -> Iterator[str]:
    """Context with the test image; gives its name and removes it at the end. What is not of this checkout, and takes
    the time, is an image of its own, which is removed too unless it is to be kept: later test runs take it if they are
    to make it of the same files.

    In a container that sees this checkout, its Python also has the packages of the checkout's virtual environment."""
    name, context = f"{_NAME}:{os.getpid()}", io.BytesIO()
    with contextlib.closing(docker.from_env(timeout=600)) as client, _open_host_files(keep=keep) as base:
        with tarfile.open(fileobj=context, mode="w") as tar:
            _add_text(tar, "Dockerfile", f"FROM {base}\nCOPY files /\n", 0o644)
            for source, target in _tree(ROOT / "deployment_toolkit", f"files/{PACKAGES}/deployment_toolkit"):
                tar.add(source, target, recursive=False)
            _add_text(tar, f"files/{PACKAGES}/checkout.pth", sysconfig.get_path("purelib"), 0o644)
            _add_text(tar, "files/bin/tritonserver", TRITONSERVER, 0o755)
        context.seek(0)
        client.images.build(fileobj=context, custom_context=True, tag=name, rm=True, forcerm=True)
        try:
            yield name
        finally:
            client.images.remove(name, force=True)


@contextlib.contextmanager
def _open_host_files(*, keep: bool) -> Iterator[str]:
    """Context with the image of this host's files; gives its name, which has a digest of them if it is to be kept."""
    files = {target: source.resolve() for source, target in _files()}
    for library in _system_libraries(files.values()):
        files.setdefault(str(library), library.resolve())
    tag = f"{_HOST_FILES}:{_digest(files) if keep else os.getpid()}"
    with contextlib.closing(docker.from_env(timeout=600)) as client:
        known = {old for image in client.images.list(name=_HOST_FILES) for old in image.tags}
        if tag in known:
            yield tag
            return
        for other in known if keep else ():
            client.images.remove(other, force=True)
    reading, writing = os.pipe()
    writer = threading.Thread(target=_write_image, args=(writing, files))
    writer.start()
    with os.fdopen(reading, "rb") as stream, imported(stream, tag, ENVIRONMENT, keep=keep) as name:
        writer.join()
        yield name


def _digest(files: Mapping[str, Path]) -> str:
    digest = hashlib.sha256(repr(ENVIRONMENT).encode())
    for target, source in sorted(files.items()):
        digest.update(f"{target}\0{source.stat().st_mode}\0".encode() + source.read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def imported(stream: IO[bytes], name: str, environment: Iterable[str], *, keep: bool = False) -> Iterator[str]:
    """Context with an image of this name made of the files of a tar; gives its name. It is removed at the end unless
    it is to be kept."""
    repository, _, tag = name.rpartition(":")
    with contextlib.closing(docker.from_env(timeout=600)) as client:
        answer = client.api.import_image_from_stream(stream, changes=[f"ENV {item}" for item in environment])
        image = client.images.get(answer.strip().splitlines()[-1].partition("sha256:")[2][:64])
        try:
            image.tag(repository, tag)
            yield name
        finally:
            if not keep:
                client.images.remove(image.id, force=True)


def _write_image(descriptor: int, files: Mapping[str, Path]) -> None:
    with os.fdopen(descriptor, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        _add_text(tar, "tmp", None, 0o1777)
        for target, source in files.items():
            tar.add(source, target.lstrip("/"), recursive=False)


def _files() -> Iterator[tuple[Path, str]]:
    """Files of this host in the image: source and target."""
    installation, site = Installation.find(), Path(sysconfig.get_path("purelib"))
    yield Path("/bin/bash"), "/bin/bash"
    yield Path("/bin/bash"), "/bin/sh"
    for name in ("python3", PYTHON):
        yield Path(sys.executable), f"/opt/python/bin/{name}"
    yield installation.libpython / LIBRARY, f"/opt/python/lib/{LIBRARY}"
    yield from _tree(Path(sysconfig.get_path("stdlib")), f"/opt/python/lib/{PYTHON}")
    for name in ("numpy", "numpy.libs", "nvidia_pytriton.libs"):
        yield from _tree(site / name, f"/{PACKAGES}/{name}")
    for part in ("bin", "backends", f"python_backend_stubs/{VERSION}"):
        folder = f"/{PACKAGES}/pytriton/tritonserver/{part}"
        yield from _tree(installation.package / "tritonserver" / part, folder)
    yield installation.package / "__init__.py", f"/{PACKAGES}/pytriton/__init__.py"


def _tree(source: Path, target: str) -> Iterator[tuple[Path, str]]:
    for path in sorted(source.rglob("*")):
        inside = path.relative_to(source)
        if path.is_file() and not any(fnmatch(part, pattern) for part in inside.parts for pattern in _LEFT_OUT):
            yield path, f"{target}/{inside}"


def _add_text(tar: tarfile.TarFile, name: str, text: str | None, mode: int) -> None:
    """Adds a file, or a folder if ``text`` is None."""
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type = mode, tarfile.REGTYPE if text is not None else tarfile.DIRTYPE
    entry.size = len((text or "").encode())
    tar.addfile(entry, io.BytesIO((text or "").encode()))


def _system_libraries(programs: Iterable[Path]) -> set[Path]:
    """Libraries of the host that programs and other libraries need, by the paths that the linker looks for."""
    binaries = [str(path) for path in programs if ".so" in path.name or path.parent.name in ("bin", VERSION)]
    listed = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    words = {word for line in listed.splitlines() if line.startswith("\t") for word in line.split()}
    return {Path(word) for word in words if word.startswith(("/lib", "/usr/lib")) and "libpython" not in word}
