"""What every process of this machine shares: the loopback address, and memory seen as files."""

from __future__ import annotations

from pathlib import Path

LOOPBACK = "127.0.0.1"
SHARED_MEMORY = Path("/dev/shm")  # of this machine alone, gone when it ends
