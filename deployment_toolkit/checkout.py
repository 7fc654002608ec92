"""Root folder of this checkout."""

from __future__ import annotations

from pathlib import Path

# Scripts, configurations and packages are in it; only an editable installation has them all.
ROOT = Path(__file__).resolve().parent.parent
