#!/usr/bin/env bash
# Preprocesses the raw Outbrain CSVs with NVTabular:
#   scripts/preproc.sh --raw-dir datasets/raw --output-dir datasets/outbrain
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="$root/.venv/bin/python"
[[ -x "$python" ]] || python=python3

# NVTabular's libraries import TensorFlow, whose start-up messages say nothing here.
export TF_CPP_MIN_LOG_LEVEL="${TF_CPP_MIN_LOG_LEVEL:-2}"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m widedeep.preprocessing "$@"
