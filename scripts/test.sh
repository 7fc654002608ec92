#!/usr/bin/env bash
# Installs missing packages, checks style and types, runs every test: a file per worker, two workers at once, since a
# worker with TensorFlow and a server takes some GiB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh --dev
.venv/bin/ruff format --check .
.venv/bin/ruff check .
.venv/bin/mypy
exec .venv/bin/python -m pytest --numprocesses 2 --dist loadgroup --no-loadscope-reorder "$@"
