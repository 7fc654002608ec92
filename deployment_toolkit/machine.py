"""Resources that all processes of this machine share: the loopback address, and memory that is seen as files."""

from __future__ import annotations

import ipaddress
from pathlib import Path

LOOPBACK = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")  # of this machine alone, gone when it ends


def is_loopback(host: str) -> bool:
    """True if an address or a name is this machine's loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"
