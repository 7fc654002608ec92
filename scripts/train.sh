#!/usr/bin/env bash
# Trains a demo checkpoint from preprocessed data, or evaluates one:
#   scripts/train.sh --data-dir datasets/outbrain --checkpoint-dir DIR [--evaluate]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
exec "$python" -m widedeep.training "$@"
