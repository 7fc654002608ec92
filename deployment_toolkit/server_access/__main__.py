"""Compiles the library that keeps a server's key from other users, if necessary, and prints its path; or becomes a
command that starts a server, with a new key in its environment: ``python -m deployment_toolkit.server_access``."""

from __future__ import annotations

import os
from contextlib import ExitStack

from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.options.params import make_parser, run_entry_point
from deployment_toolkit.server_access.key import ServerKey
from deployment_toolkit.server_access.key_files import kept_key
from deployment_toolkit.server_access.ports import require_free
from deployment_toolkit.server_access.private_options import build_library, variable
from deployment_toolkit.server_access.url import Scheme, ServerUrl


def main(argv: list[str]) -> int:
    """Prints the library's path, or becomes the command. Raises ServerError if a port is in use."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--http-port", type=int, default=8000, help="the server's port of the HTTP protocol")
    parser.add_argument("--grpc-port", type=int, default=8001, help="the server's port of the gRPC protocol")
    parser.add_argument("command", nargs="*", help="what starts the server, after --")
    options = parser.parse_args(argv)
    if not options.command:
        print(build_library())
        return 0
    key, ports = ServerKey.new(), {Scheme.HTTP: options.http_port, Scheme.GRPC: options.grpc_port}
    require_free({scheme.value: port for scheme, port in ports.items()})  # so the key of a running server is kept
    urls = [ServerUrl(scheme, LOOPBACK, port) for scheme, port in ports.items()]
    with ExitStack() as stack:
        # The command keeps the key files locked while it runs; the start of the next server removes them.
        stack.enter_context(kept_key(key, urls, inherited=True))
        os.execvpe(options.command[0], options.command, {**os.environ, **variable(key.server_options)})
    return 1


if __name__ == "__main__":
    run_entry_point(main)
