#!/usr/bin/env bash
# Installs what is missing and runs every test, style and types among them (tests/test_style.py). A worker runs a file, or
# a group of them; two at once, since a worker with TensorFlow and a server takes some GiB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh --dev
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder "$@"
