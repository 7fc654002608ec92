#!/usr/bin/env bash
# The main job on a GPU host: checks the requirements, installs nothing, runs every experiment, reports. Data and
# results are in the folder you call it from. The start_NVIDIA-*.sh call it:
#   runner/start_gpu.sh DEVICE EXPRESSION [--any-gpu] [options of the runner]
# EXPRESSION (extended regular) matches the name of DEVICE's GPU in nvidia-smi.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/host_checks.sh"
device=$1 expression=$2 any_gpu=no
shift 2
if [ "${1:-}" = --any-gpu ]; then any_gpu=yes; shift; fi

require_gpu "runner/start_$device.sh"
[ "$any_gpu" = yes ] || [[ $gpu_name =~ $expression ]] || fail "this machine's GPU is $gpu_name, runner/start_$device.sh" \
  "is for another: use the runner/start_NVIDIA-*.sh of yours, or --any-gpu as the first option for this configuration"
require_disk "$PWD" 15 "models and results"

python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
"$python" -c 'import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, ("tritonclient", "tqdm"))))' \
  || fail "the requirements are not installed: run scripts/install.sh, or work inside scripts/docker/interactive.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
options=(--config-path "$root/runner/config_$device.yaml" --devices 0 "$@")

embedded="" docker="" # numbers of the chosen experiments that need the one and the other
listed=$("$python" -m runner --print-launch-modes "${options[@]}")
while read -r mode numbers; do
  case $mode in embedded) embedded=$numbers ;; docker) docker=$numbers ;; esac
done <<<"$listed"
if [ -n "$embedded" ]; then
  cuda='import onnxruntime, sys; sys.exit("CUDAExecutionProvider" not in onnxruntime.get_available_providers())'
  "$python" -c "$cuda" || fail "experiments $embedded run without Docker, on onnxruntime's CUDA provider, which is not" \
    "installed: run scripts/install.sh --gpu${docker:+, or leave them out with --experiments $docker}"
  advice="Experiments $embedded run without it: --experiments $embedded"
fi
if [ -n "$docker" ] && ! { [ -e /.dockerenv ] && [ -S /var/run/docker.sock ]; }; then # that is interactive.sh
  require_docker "runner/start_$device.sh"
  find_gpu_options all
fi
exec "$python" -m runner "${options[@]}"
