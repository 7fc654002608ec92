"""Files that are accepted as the key of a server, and files that are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access import key_files
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import FOLDER_VARIABLE, find_key, kept_key, own_folder
from deployment_toolkit.server_access.url import ServerUrl

URL = ServerUrl.parse("http://localhost:1")
ELSEWHERE = ServerUrl.parse("grpc://gpu7:8001")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder used in place of /dev/shm."""
    monkeypatch.setattr(key_files, "SHARED_MEMORY", tmp_path)
    return tmp_path


def test_key_file_is_private_and_belongs_to_its_address(memory: Path) -> None:
    key = ServerKey.new()
    assert key.value not in repr(key)
    assert find_key(URL) is None
    with kept_key(key, [URL]) as path:
        assert path == own_folder() / "127.0.0.1:1" and path.read_text() == f"wide-deep-key: {key.value}\n"
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
        assert find_key(URL) == (ServerUrl.parse("http://127.0.0.1:1"), key)
        secure = ServerUrl.parse("https://localhost:1")  # its certificate proves who listens at the name
        assert find_key(secure) == (secure, key)
        for other in ("http://[::1]:1", "http://127.0.0.2:1", "http://localhost:2", "http://gpu7:1"):
            assert find_key(ServerUrl.parse(other)) is None
        with kept_key(ServerKey.new(), [URL]) as later:  # the place of the first is taken, which leaves it alone
            assert later == path
        assert not path.exists()
    assert find_key(URL) is None and list(own_folder().iterdir()) == []


@pytest.mark.parametrize("taken", ["folder", "link", "pipe", "file"])
def test_key_is_kept_elsewhere_if_the_folder_is_not_this_users_alone(
    taken: str, memory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usual, elsewhere = own_folder(), memory / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if taken == "folder":
        usual.mkdir(mode=0o755)
    elif taken == "link":
        usual.symlink_to(elsewhere)
    elif taken == "pipe":
        os.mkfifo(usual)
    else:
        usual.touch()
    for key in (ServerKey.new(), ServerKey.new()):
        with kept_key(key, [URL]) as path:
            assert path.parent.name.startswith(f"{usual.name}-") and path.parent == own_folder()
            assert path.parent.stat().st_mode & 0o777 == 0o700
            found = find_key(URL)
            assert found is not None and found[1] == key
        assert find_key(URL) is None
    assert caplog.text.count(f"{usual} is not this user's alone, so no key is kept there") == 1
    assert list(elsewhere.iterdir()) == [] and len(list(memory.iterdir())) == 3


def test_key_in_a_folder_that_has_been_opened_is_ignored(memory: Path) -> None:
    with kept_key(ServerKey.new(), [URL]) as path:
        path.parent.chmod(0o755)
        assert find_key(URL) is None
        path.parent.chmod(0o700)
        assert find_key(URL) is not None


def test_key_file_that_is_a_link_or_readable_by_others_is_ignored(memory: Path) -> None:
    with kept_key(ServerKey.new(), [URL]) as path:
        path.chmod(0o640)
        assert find_key(URL) is None
        path.chmod(0o600)
        assert find_key(URL) is not None
        path.rename(path.with_name("aside"))
        path.symlink_to(path.with_name("aside"))
        assert find_key(URL) is None
        path.unlink()
        path.with_name("aside").rename(path)


def test_key_of_another_server_is_read_from_the_configured_folder(memory: Path, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    env = {FOLDER_VARIABLE: str(folder)}
    assert find_key(ELSEWHERE, env) is None
    file = folder / "gpu7:8001"
    file.write_text("their-key: secret\n")
    file.chmod(0o644)
    with pytest.raises(ServerError, match=f"{file} is not this user's alone, so it is not trusted: .*chmod 600"):
        find_key(ELSEWHERE, env)
    file.chmod(0o600)
    assert find_key(ELSEWHERE, env) == (ELSEWHERE, ServerKey("their-key", "secret"))
    assert find_key(ServerUrl.parse("grpc://gpu8:8001"), env) is None and find_key(ELSEWHERE, {}) is None
    file.write_text("secret")
    with pytest.raises(ServerError, match=f"{file} holds no key: write one line") as told:
        find_key(ELSEWHERE, env)
    assert "secret" not in str(told.value)
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)
        with pytest.raises(ServerError, match="is not this user's alone"):
            find_key(ELSEWHERE, env)
