#!/usr/bin/env bash
# The main job on this host: installs missing packages, prepares data and checkpoint, runs every experiment, reports.
# --quick: first figures of two experiments in minutes (docs/quick-look.md).
# Data and results are in the folder you call it from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$root/scripts/install.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$root/.venv/bin/python" -m runner --config-path "$root/runner/config_CPU.yaml" --devices 0 "$@"
