#!/usr/bin/env bash
# Runs NVIDIA's Triton on the model repository of setup_environment.sh until Ctrl-C, reachable from this host only:
#   [GPUS=all|none|0,1] [TRITON_IMAGE=…] scripts/docker/triton_inference_server.sh [options of tritonserver]
# 25.02 is the last release with a TensorFlow backend; TensorRT plans and ONNX files are better served by 25.07 or later.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/host_checks.sh"
gpus=${GPUS:-all}
[ "$gpus" = none ] || require_gpu "scripts/docker/triton_inference_server.sh (without GPUS=none)"
require_docker scripts/docker/triton_inference_server.sh
find_gpu_options "$gpus"
source "$root/scripts/setup_environment.sh"

options=(--rm --init --user "$(id -u):$(id -g)")
options+=(--ipc host) # offline measurements pass tensors through shared memory
options+=(--volume "$MODEL_REPOSITORY_PATH:$MODEL_REPOSITORY_PATH:ro")
for port in 8000 8001 8002; do options+=(--publish "127.0.0.1:$port:$port"); done
exec docker run "${options[@]}" "${gpu_options[@]}" "${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:25.02-py3}" \
  tritonserver "--model-repository=$MODEL_REPOSITORY_PATH" --model-control-mode=explicit "$@"
