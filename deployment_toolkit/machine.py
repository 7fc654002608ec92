"""Resources that all processes of this machine share: the loopback address, and memory that is seen as files."""

from __future__ import annotations

from pathlib import Path

LOOPBACK = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")  # of this machine alone, gone when it ends
