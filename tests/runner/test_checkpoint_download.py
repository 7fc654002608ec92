"""Checkpoints by URL, from a real HTTP server that answers ranges, breaks connections and changes its file."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import random
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import yaml

from deployment_toolkit.checkout import ROOT
from deployment_toolkit.errors import DataError, ModelError, UsageError
from deployment_toolkit.files.archive import unpack
from deployment_toolkit.files.download import download
from runner.checkpoint_download import install, main
from runner.config.parts import Checkpoint
from runner.config.run import load_config
from runner.stages.network import Stage
from runner.stages.preparation import preparation_stages
from runner.workspace import create_workspace
from tests.proxy_variables import dead_proxies, no_proxies
from tests.runner.conftest import run_here, states, task
from tests.tls_proxy import SECRET, files_with, no_command_line_shows

STATE = b'model_checkpoint_path: "ckpt-1"\n'
FILES = {"checkpoint": STATE, "ckpt-1.index": b"index", "ckpt-1.data-00000-of-00001": bytes(range(256)) * 4000}


@dataclass
class Site:
    """A web server with one file. It closes a connection after ``cut`` bytes, ``cuts`` times. Before this it is
    unavailable ``outages`` times."""

    content: bytes
    tag: str | None = '"one"'
    cut: int = 0
    cuts: int = 0
    outages: int = 0
    knows_ranges: bool = True
    shift: int = 0  # of the bytes that it sends instead of those asked for
    status: int = 0
    location: str = ""
    ranges: list[str | None] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = handler.headers.get("Range")
        self.ranges.append(asked)
        self.authorizations.append(handler.headers.get("Authorization"))
        same = handler.headers.get("If-Range") == self.tag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and same and self.knows_ranges else 0
        start = start + self.shift if start else 0
        self.outages -= 1
        if self.status or self.outages >= 0:
            handler.send_response(self.status or 503)
            handler.send_header("Location", self.location)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        if start >= len(self.content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if self.cuts:
            self.cuts -= 1
            body = body[: self.cut]
        handler.wfile.write(body)
        handler.close_connection = True


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A web server with the archive of a checkpoint, on a host whose proxy is out of order."""
    dead_proxies(monkeypatch)
    served = Site(_zip({f"model/checkpoint/{name}": content for name, content in FILES.items()}))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served.url = f"http://127.0.0.1:{server.server_port}/checkpoint.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield served
        server.shutdown()
        thread.join()


def _zip(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def _tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: Any = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def _leave_partial(path: Path, site: Site, content: bytes) -> None:
    """Writes the files that an interrupted download leaves."""
    path.with_name(f"{path.name}.partial").write_bytes(content)
    path.with_name(f"{path.name}.partial.json").write_text(json.dumps({"url": site.url, "validator": '"one"'}))


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_download_from_elsewhere_asks_the_proxy(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    no_proxies(monkeypatch)
    with pytest.raises(DataError, match="elsewhere"):
        download(
            "http://elsewhere.invalid/a", tmp_path / "a", sha256=hashlib.sha256(site.content).hexdigest(), pause_s=0
        )
    monkeypatch.setenv("http_proxy", site.url.removesuffix("/checkpoint.zip"))
    download("http://elsewhere.invalid/a", tmp_path / "a", sha256=hashlib.sha256(site.content).hexdigest())
    assert (tmp_path / "a").read_bytes() == site.content


def test_checkpoint_download_continues_after_broken_connections(site: Site, tmp_path: Path) -> None:
    site.cut, site.cuts = 400_000, 2
    folder = tmp_path / "name" / "checkpoint"
    checksum = hashlib.sha256(site.content).hexdigest().upper()
    main(["--url", site.url, "--checkpoint-dir", str(folder), "--sha256", checksum])
    assert _contents(folder) == FILES
    assert site.ranges == [None, "bytes=400000-", "bytes=800000-"]
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]


def test_next_download_continues_a_partial_file(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    site.cut, site.cuts = 0, 100
    with pytest.raises(DataError, match="try again later$"):
        download(site.url, path, pause_s=0)
    site.cut, site.cuts = 1000, 1
    site.ranges.clear()
    with contextlib.suppress(DataError):
        download(site.url, path, pause_s=0)
    assert site.ranges == [None, "bytes=1000-"]
    assert path.read_bytes() == site.content


def test_complete_partial_file_is_not_fetched_again(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    _leave_partial(path, site, site.content)
    download(site.url, path, pause_s=0)
    assert path.read_bytes() == site.content
    assert site.ranges == [f"bytes={len(site.content)}-"]
    assert [item.name for item in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("way", ["no ranges", "other bytes"])
def test_download_restarts_if_the_server_cannot_continue(site: Site, tmp_path: Path, way: str) -> None:
    site.cut, site.cuts = 400_000, 1
    site.knows_ranges, site.shift = way != "no ranges", 7 if way == "other bytes" else 0
    download(site.url, tmp_path / "archive", pause_s=0)
    assert (tmp_path / "archive").read_bytes() == site.content
    assert site.ranges == [None, "bytes=400000-", *([None] if site.shift else [])]


def test_download_is_repeated_if_the_server_is_unavailable(site: Site, tmp_path: Path) -> None:
    site.outages = 3
    download(site.url, tmp_path / "archive", pause_s=0)
    assert (tmp_path / "archive").read_bytes() == site.content
    site.outages = 100
    with pytest.raises(DataError, match="the server answers 503 Service Unavailable; try again later$"):
        download(site.url, tmp_path / "other", pause_s=0)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    _leave_partial(tmp_path / "other", site, b"begin")
    with pytest.raises(DataError, match=r"try again later \(what came so far is kept in .*/other.partial\)"):
        download(site.url, tmp_path / "other", pause_s=0)


@pytest.mark.parametrize("tag", ['"two"', None, 'W/"weak"'])
def test_changed_file_is_fetched_from_its_start(site: Site, tmp_path: Path, tag: str | None) -> None:
    path = tmp_path / "archive"
    if tag == '"two"':
        _leave_partial(path, site, b"of an older file")
    else:
        path.with_name("archive.partial").write_bytes(b"of an older file")
    site.tag = tag
    site.cut, site.cuts = 10, 1
    download(site.url, path, pause_s=0)
    assert path.read_bytes() == site.content


def test_wrong_checksum_leaves_nothing(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    with pytest.raises(DataError, match=f"its SHA-256 is {hashlib.sha256(site.content).hexdigest()}, not {'0' * 64}"):
        main(["--url", site.url, "--checkpoint-dir", str(folder), "--sha256", "0" * 64])
    assert list(tmp_path.iterdir()) == []


def test_missing_file_is_reported_at_once(site: Site, tmp_path: Path) -> None:
    site.status = 404
    with pytest.raises(DataError, match="the server answers 404"):
        download(site.url, tmp_path / "archive", pause_s=0)
    assert len(site.ranges) == 1


def test_failed_download_names_other_ways_to_a_checkpoint(site: Site, tmp_path: Path) -> None:
    site.status = 404
    folder = tmp_path / "checkpoint"
    for url in (site.url, f"file://{tmp_path}/none.zip"):
        with pytest.raises(DataError) as caught:
            main(["--url", url, "--checkpoint-dir", str(folder)])
        assert f"copy a checkpoint to {folder}, or train one there (scripts/train.sh " in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/a.zip", "could be changed on the way"),
        ("ftp://example.com/a.zip", "give an https URL"),
    ],
)
def test_unsafe_urls_are_refused(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        download(url, tmp_path / "archive")


def test_archive_of_a_file_url_is_unpacked(tmp_path: Path) -> None:
    members = [(_member(f"./{name}"), content) for name, content in FILES.items()]
    archive = _tar(tmp_path / "my checkpoint.tar.gz", [(_member(".", tarfile.DIRTYPE), b""), *members])
    folder = tmp_path / "checkpoint"
    main(["--url", archive.as_uri(), "--checkpoint-dir", str(folder)])
    assert _contents(folder) == FILES
    with pytest.raises(DataError, match="is another file than expected"):
        main(["--url", archive.as_uri(), "--checkpoint-dir", str(folder), "--sha256", "0" * 64])
    archive.unlink()
    with pytest.raises(DataError, match="there is no such file"):
        main(["--url", archive.as_uri(), "--checkpoint-dir", str(folder)])
    assert _contents(folder) == FILES


HOSTILE: dict[str, tuple[Callable[[], list[tuple[tarfile.TarInfo, bytes]]], str]] = {
    "outside": (lambda: [(_member("a/../../evil"), b"x")], "lies outside"),
    "absolute": (lambda: [(_member("/tmp/evil"), b"x")], "lies outside"),
    "symbolic link": (lambda: [(_member("l", tarfile.SYMTYPE, "/etc"), b""), (_member("l/x"), b"x")], "holds a link"),
    "hard link": (lambda: [(_member("l", tarfile.LNKTYPE, "/etc/passwd"), b"")], "holds a link"),
    "device": (lambda: [(_member("d", tarfile.CHRTYPE), b"")], "holds a device"),
    "pipe": (lambda: [(_member("d", tarfile.FIFOTYPE), b"")], "holds a device or pipe"),
    "twice": (lambda: [(_member("a"), b"x"), (_member("./a"), b"y")], "twice"),
    "below a file": (lambda: [(_member("a"), b"x"), (_member("a/b"), b"y")], "can't be unpacked"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_tar_archives_are_refused(tmp_path: Path, case: str) -> None:
    make, message = HOSTILE[case]
    archive = _tar(tmp_path / "evil.tar", [(_member("good"), b"x"), *make()], "w")
    with pytest.raises(DataError, match=message):
        unpack(archive, tmp_path / "a" / "folder")
    if case != "below a file":
        assert [path.name for path in tmp_path.iterdir()] == ["evil.tar"]
    assert not (tmp_path.parent / "evil").exists()


def test_hostile_zip_archives_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, message in (("../evil", "lies outside"), ("/evil", "lies outside"), (link, "holds a link")):
        archive = tmp_path / "evil.zip"
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr(name, "x")
        with pytest.raises(DataError, match=message):
            unpack(archive, tmp_path / "folder")
        assert [path.name for path in tmp_path.iterdir()] == ["evil.zip"]


def test_archive_larger_than_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(_zip(FILES))
    monkeypatch.setattr("shutil.disk_usage", lambda path: mock.Mock(free=1_000_000))
    with pytest.raises(DataError, match="make room"):
        unpack(archive, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_permissions_of_an_archive_are_ignored(tmp_path: Path) -> None:
    info = _member("program")
    info.mode = 0o6777
    unpack(_tar(tmp_path / "a.tar", [(info, b"x")], "w"), tmp_path / "folder")
    assert (tmp_path / "folder" / "program").stat().st_mode & 0o7111 == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"neither", "neither a zip nor a tar"), (_zip(FILES)[:-5000] + b"PK\5\6" + bytes(18), "none")],
    ids=["other", "without an index"],  # an archive's bytes hold the time
)
def test_archive_without_a_checkpoint_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(content)
    with pytest.raises((DataError, ModelError), match=message):
        install(archive, tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("damage", ["cut short", "changed"])
def test_damaged_archive_is_refused(tmp_path: Path, mode: str, damage: str) -> None:
    files = FILES | {"ckpt-1.data-00000-of-00001": random.Random(1).randbytes(10**6)}
    archive = _tar(tmp_path / "archive", [(_member(name), content) for name, content in files.items()], mode)
    content = archive.read_bytes()
    changed = content[:500_000] + bytes(1000) + content[501_000:]
    archive.write_bytes(content[:-2000] if damage == "cut short" else changed)
    with pytest.raises(DataError, match="can't be unpacked|neither a zip nor a tar"):
        install(archive, tmp_path / "checkpoint")
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_archive_with_two_checkpoints_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    archive.write_bytes(_zip({f"{epoch}/{name}": content for epoch in "ab" for name, content in FILES.items()}))
    with pytest.raises(ModelError, match="found a, b: unpack it by hand"):
        install(archive, tmp_path / "checkpoint")


def test_run_downloads_a_missing_checkpoint_with_a_url(
    site: Site, small_config: dict[str, Any], tmp_path: Path
) -> None:
    checkpoints = [{"name": "small", "url": site.url, "sha256": hashlib.sha256(site.content).hexdigest()}]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(small_config | {"checkpoints": checkpoints}))
    workspace = create_workspace(tmp_path / "workspace")
    *_, stage = preparation_stages(load_config(path), workspace)
    assert (stage.name, stage.product) == ("download", workspace.checkpoint("small"))
    subprocess.run(stage.command().argv, check=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert _contents(workspace.checkpoint("small")) == FILES


def _run(config: dict[str, Any], tmp_path: Path) -> tuple[Path, str]:
    """Runs a configuration of which only the preparation can succeed; returns its folder and its output."""
    workspace = create_workspace(tmp_path / "workspace")
    code, printed = run_here(config | {"datasets_dir": str(tmp_path / "datasets")}, workspace, tmp_path)
    assert code == 1
    return workspace.run, printed


def test_second_run_reuses_the_downloaded_checkpoint(
    site: Site, small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runner.pipeline.stages_of", lambda config: [Stage("export", mock.Mock(side_effect=ModelError))]
    )
    (tmp_path / "datasets" / "outbrain" / "valid").mkdir(parents=True)
    config = small_config | {"checkpoints": [{"name": "small", "url": site.url}]}
    downloads = [states(_run(config, tmp_path)[0], None)["download"] for _ in range(2)]
    assert downloads == ["ok", "reused"]
    assert site.ranges == [None]


def _secret_url(site: Site) -> str:
    return site.url.replace("//", f"//me:{SECRET}%2Fone@") + f"?token={SECRET}"


def test_run_keeps_password_and_token_of_a_url_to_itself(
    site: Site, small_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runner.pipeline.stages_of", lambda config: [Stage("export", mock.Mock(side_effect=ModelError))]
    )
    (tmp_path / "datasets" / "outbrain" / "valid").mkdir(parents=True)
    site.outages = 1  # so that something is logged
    with no_command_line_shows(SECRET):
        run, printed = _run(small_config | {"checkpoints": [{"name": "small", "url": _secret_url(site)}]}, tmp_path)
    header = f"Basic {base64.b64encode(f'me:{SECRET}/one'.encode()).decode()}"
    assert (states(run, None)["download"], site.authorizations) == ("ok", [header, header])
    shown = f"{site.url.replace('//', '//***@')}?***"
    assert task(run)["config"]["checkpoints"][0]["url"] == shown
    assert shown in (run / "logs" / "download_small.log.err").read_text()
    assert SECRET not in printed and not files_with(tmp_path / "workspace", SECRET)


def test_partial_file_of_a_secret_url_is_recognised_without_telling_it(site: Site, tmp_path: Path) -> None:
    site.cut, site.cuts = 1000, 1
    with mock.patch("deployment_toolkit.files.download._ATTEMPTS", 1), contextlib.suppress(DataError):
        download(_secret_url(site), tmp_path / "archive", pause_s=0)
    left = tmp_path / "archive.partial.json"
    assert "***" in left.read_text() and not files_with(tmp_path, SECRET)
    download(_secret_url(site), tmp_path / "archive", pause_s=0)
    assert site.ranges == [None, "bytes=1000-"]
    site.cut, site.cuts = 1000, 1
    with mock.patch("deployment_toolkit.files.download._ATTEMPTS", 1), contextlib.suppress(DataError):
        download(_secret_url(site), tmp_path / "other", pause_s=0)
    download(f"{_secret_url(site)}2", tmp_path / "other", pause_s=0)  # another token: perhaps another file
    assert site.ranges[-1] is None and (tmp_path / "other").read_bytes() == site.content


def test_password_of_a_url_is_not_sent_to_another_host(site: Site, tmp_path: Path) -> None:
    site.status, site.location = 302, site.url.replace("127.0.0.1", "localhost")
    with pytest.raises(DataError, match="can't be downloaded"):
        download(_secret_url(site), tmp_path / "archive", pause_s=0)
    assert len(site.authorizations) > 1 and not any(site.authorizations[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url-env", "NO_SUCH_VARIABLE"], "--url-env NO_SUCH_VARIABLE: there is no such environment variable"),
        ([], "--url and --url-env both say where the archive is"),
    ],
)
def test_url_of_a_variable_has_to_be_there(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main([*options, "--checkpoint-dir", str(tmp_path / "checkpoint")])


def test_run_without_a_url_names_other_ways_to_a_checkpoint(small_config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "datasets" / "outbrain" / "valid").mkdir(parents=True)
    folder = tmp_path / "workspace" / "checkpoints" / "small" / "checkpoint"
    run, printed = _run(small_config, tmp_path)
    assert f"no checkpoint: {folder} is not there and the configuration has no url, so one is trained" in printed
    assert "To use yours, copy it there or give its url\n" in printed
    assert states(run, None)["training"] == "failed"
    assert f"there is no data to train one on ({tmp_path}/datasets/outbrain/train/*.parquet)" in printed


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "ftp://x/y.zip"}, "must start with https or file"),
        ({"url": "https://x/y.zip", "sha256": "abc"}, "64 hexadecimal digits"),
        ({"sha256": "0" * 64}, "belongs to a url"),
    ],
)
def test_invalid_checkpoint_entry_is_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Checkpoint("small", **keys)


def test_empty_url_of_the_original_means_no_url() -> None:
    assert not Checkpoint("small", url="").url


def test_download_command_shows_its_progress(site: Site, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner.checkpoint_download", "--url", site.url]
    done = subprocess.run(
        [*command, "--checkpoint-dir", str(tmp_path / "checkpoint")],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "download: 1.02M of 1.02M B" in done.stderr
