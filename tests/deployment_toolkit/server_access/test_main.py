from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from deployment_toolkit.process import child
from deployment_toolkit.server_access.key_files import find_key
from deployment_toolkit.server_access.private_options import build_library
from deployment_toolkit.server_access.url import ServerUrl

COMMAND = [sys.executable, "-m", "deployment_toolkit.server_access"]


def test_server_access_without_a_command_prints_the_library_path() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == build_library()


def test_server_access_command_has_a_key_while_it_runs(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        http, grpc = (item.getsockname()[1] for item in (first, second))
    url, made, go_on = ServerUrl.parse(f"grpc://localhost:{grpc}"), tmp_path / "made", tmp_path / "go_on"
    os.mkfifo(go_on)
    argv = [*COMMAND, "--http-port", str(http), "--grpc-port", str(grpc), "--"]
    script = 'echo "$WIDE_DEEP_PRIVATE_OPTIONS" >"$0"; echo made >"$1"; read -r line <"$1"'
    with child([*argv, "bash", "-c", script, str(made), str(go_on)], stdout=tmp_path / "printed") as process:
        assert go_on.read_text() == "made\n"
        found = find_key(url)
        assert found is not None and made.read_text() == "\n".join(found[1].server_options) + "\n"
        assert found == (url.pinned, (find_key(ServerUrl.parse(f"http://localhost:{http}")) or found)[1])
        with socket.create_server(("127.0.0.1", http)):
            refused = subprocess.run([*argv, "true"], capture_output=True, text=True, check=False)
            assert refused.returncode == 1 and f"port {http} of 127.0.0.1, for http, can't be used" in refused.stderr
        assert find_key(url) == found
        go_on.write_text("\n")
        assert process.wait(10) == 0
    assert find_key(url) is None
