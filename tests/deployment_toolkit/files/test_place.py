"""Targets on real mounts, in a mount namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import require_writable
from deployment_toolkit.process import run

NOBODY = 65534
IN_USE = (
    "can't be written: this folder can't be renamed (it is a mount point, the current folder or in a folder of another "
    "user)"
)
# Writes the folder ``argv[1]``, as ``argv[2]`` says, and prints what came of it.
WRITE = """
import sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from deployment_toolkit.errors import DataError
from deployment_toolkit.files.atomic import replace_when_complete

path, how = Path(sys.argv[1]), sys.argv[2]
try:
    with replace_when_complete(path, replaces_all=how == "again") as beside:
        print("working")
        beside.mkdir()
        (beside / how).mkdir()
        rows = 200_000 if how == "large" else 1
        pq.write_table(pa.table({"x": list(range(rows))}), beside / how / "part.parquet", compression="none")
        if how == "fails":
            raise DataError("no luck")
except DataError as error:
    print("error:", error)
print(*sorted(item.name for item in path.iterdir()) if path.is_dir() else [])
"""


def in_mounts(folder: Path, script: str) -> list[str]:
    """Lines that a script prints as root of a mount namespace, in ``folder``; ``write`` in it is ``WRITE``."""
    own = ["unshare", "--mount", "--propagation", "private", *(["--map-root-user"] if os.geteuid() else [])]
    if subprocess.run([*own, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    (folder / "write.py").write_text(WRITE)
    text = f'set -e; cd "{folder}"; write() {{ "{sys.executable}" write.py "$@"; }}\n{script}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return run([*own, "bash", "-c", text], env=environment, log_path=folder / "log").stdout.splitlines()


def test_mount_point_is_filled(tmp_path: Path) -> None:
    said = in_mounts(
        tmp_path,
        """
        mkdir -p disk/lost+found out; mount --bind disk out
        write out new; write out other; write out fails; write out again; umount out; ls -A out; ls -A disk
        """,
    )
    refused = f"error: out {IN_USE} and holds new; empty it or name a folder in it"
    assert said == [
        *("working", "lost+found new"),
        *(refused, "lost+found new"),
        *(refused, "lost+found new"),
        *("working", "again lost+found"),
        *("again", "lost+found"),
    ]


def test_failure_on_a_mount_point_leaves_it_as_it_was(tmp_path: Path) -> None:
    said = in_mounts(tmp_path, "mkdir disk out; mount --bind disk out; write out fails; ls -A out; umount out")
    assert said == ["working", "error: no luck", ""]


def test_full_and_read_only_disks_are_told(tmp_path: Path) -> None:
    said = in_mounts(
        tmp_path,
        """
        mkdir out; mount -t tmpfs -o size=64k tmpfs out
        write out large; ls -A out
        mount -o remount,ro out
        write out new; write out/below new; umount out
        """,
    )
    read_only = "can't be written: Read-only file system; mount it writable or choose another place"
    assert said[:3] == [
        "working",
        "error: out can't be written: No space left on device; make room or choose another place",
        "",
    ]
    assert said[3:5] == [f"error: out {read_only}", ""]
    assert said[5] == f"error: out/below {read_only}"


def test_folder_around_a_mount_point_and_a_mounted_file_are_refused(tmp_path: Path) -> None:
    said = in_mounts(
        tmp_path,
        """
        mkdir -p disk data/train; echo kept > disk/file; mount --bind disk data/train
        write data new; touch model; mount --bind disk/file model; write model new; cat data/train/file
        """,
    )
    inner = f"{tmp_path}/data/train in it is a mount point; unmount it or choose another place"
    assert said[0] == f"error: data can't be written: {inner}"
    assert "error: model can't be written: it is the mount point of a single file; mount the folder above it" in said
    assert said[-1] == "kept"


def test_own_folder_below_one_of_another_user_is_filled(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become two users")
    own = tmp_path / "theirs" / "mine"
    own.mkdir(parents=True)
    os.chown(own, NOBODY, NOBODY)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o005:
            folder.chmod(0o755)
    # This user may not read Python's own files, so all is imported before.
    loaded = "import os, sys; import pyarrow.parquet; import deployment_toolkit.files.atomic"
    program = f"{loaded}; os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY}); exec(sys.argv.pop(1))"
    argv = [sys.executable, "-c", program, WRITE]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = [
        run([*argv, path, "new"], env=environment, log_path=tmp_path / f"log{number}").stdout.splitlines()
        for number, path in enumerate((own, tmp_path / "theirs"))
    ]
    assert said[0] == ["working", "new"]
    assert said[1][0] == f"error: {tmp_path}/theirs {IN_USE} and holds mine; empty it or name a folder in it"


def test_missing_permission_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DataError, match=r"model can't be written: Permission denied; give this user the permission or"):
        require_writable(tmp_path / "model")
