#!/usr/bin/env bash
# Installs what is missing and runs every test, style and types among them (tests/test_style.py). A worker runs a file, or
# a group of them; three at once on two cores, since many tests wait for a server. A worker takes 1 to 2 GiB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh --dev
exec .venv/bin/python -m pytest --numprocesses 3 --dist loadgroup --no-loadscope-reorder "$@"
