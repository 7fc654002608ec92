#!/usr/bin/env bash
# Builds an image of a model repository, and of the rows that the gate sends to it, for clusters (docs/serving-image.md):
#   scripts/build_model_image.sh REPOSITORY TAG --reference-dump-dir FOLDER
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m deployment_toolkit.model_image "$@"
