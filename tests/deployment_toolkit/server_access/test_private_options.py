"""Options that a program receives without a command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployment_toolkit.errors import ServerError
from deployment_toolkit.server_access import private_options
from deployment_toolkit.server_access.private_options import build_library, preload, with_private_options
from deployment_toolkit.triton_server.local import local_server

SHOW = """
import json, os, pathlib, sys
told = {name: pathlib.Path(f"/proc/self/{name}").read_text() for name in ("cmdline", "environ")}
print(json.dumps(told | {"options": sys.argv[1:], "inherited": dict(os.environ)}))
"""


@pytest.mark.parametrize("name", ["tritonserver", "perf_analyzer", "another"])
def test_private_options_reach_only_the_intended_programs(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to(Path(sys.executable).resolve())
    env = with_private_options({**os.environ, "LD_PRELOAD": "libm.so.6"}, ["--secret=two words", "-H", "name:secret"])
    done = subprocess.run([program, "-c", SHOW, "public"], env=env, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert "secret" not in told["cmdline"] and "public" in told["cmdline"]
    if name == "another":
        assert told["options"] == ["public"] and told["inherited"] == env
    else:
        assert told["options"] == ["public", "--secret=two words", "-H", "name:secret"]
        assert told["inherited"]["LD_PRELOAD"] == "libm.so.6"
        assert "secret" not in str(told["inherited"]) + told["environ"]


def test_server_without_a_compiler_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_options, "_CACHE", tmp_path / "cache")
    monkeypatch.setenv("CXX", "/no/c++")
    with (
        pytest.raises(ServerError, match=r"key can't be kept from other users: .*: install one \(.*apt-get install g"),
        local_server(tmp_path, log_path=tmp_path / "log"),
    ):
        pass


def test_path_with_a_space_cannot_be_preloaded() -> None:
    assert preload(build_library(), Path("/b.so")) == {"LD_PRELOAD": f"{build_library()}:/b.so"}
    with pytest.raises(ServerError, match=r"/a b/c\.so can't be preloaded: move it"):
        preload(Path("/a b/c.so"))
