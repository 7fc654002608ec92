#!/usr/bin/env bash
# The main job on this host: installs what is missing, prepares data and checkpoint, runs every experiment, reports.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh
exec .venv/bin/python -m runner --config-path runner/config_CPU.yaml --devices 0 "$@"
