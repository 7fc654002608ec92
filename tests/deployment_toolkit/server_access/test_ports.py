from __future__ import annotations

import socket

import pytest

from deployment_toolkit.errors import ServerError
from deployment_toolkit.machine import LOOPBACK
from deployment_toolkit.server_access.ports import choose_free, require_free


def test_port_that_is_given_twice_or_in_use_is_refused() -> None:
    with socket.socket() as used:
        used.bind((LOOPBACK, 0))
        used.listen()
        port = used.getsockname()[1]
        with pytest.raises(ServerError, match=rf"port {port} of {LOOPBACK}, for grpc, can't be used \(Address already"):
            require_free({"http": None, "grpc": port})
    require_free({"http": None, "grpc": port})
    with pytest.raises(ServerError, match=f"port {port} is given more than once: choose another port for http"):
        require_free({"http": port, "grpc": port})


def test_chosen_ports_differ_and_given_ones_are_kept() -> None:
    chosen = choose_free({"http": None, "grpc": None, "metrics": 4})
    assert chosen["metrics"] == 4
    assert len({*chosen.values()}) == 3
