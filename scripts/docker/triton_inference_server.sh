#!/usr/bin/env bash
# Runs NVIDIA's Triton on the model repository of setup_environment.sh until Ctrl-C, reachable from this host only:
#   [GPUS=all|none|0,1] [TRITON_IMAGE=…] [PORT=8000] scripts/docker/triton_inference_server.sh [its options]
# HTTP is at PORT, gRPC and metrics at the next two. 25.02 is the last release with a TensorFlow backend; TensorRT plans
# and ONNX files are better served by 25.07 or later; offline measurements need --allow-client-shm=true from 26.05 on.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/host_checks.sh"
gpus=${GPUS:-all} port=${PORT:-8000}
[ "$gpus" = none ] || require_gpu "scripts/docker/triton_inference_server.sh (without GPUS=none)"
require_docker scripts/docker/triton_inference_server.sh
python=$root/.venv/bin/python
[ -x "$python" ] || fail "the server's key is made by this project's own Python: run scripts/install.sh first"
find_gpu_options "$gpus"
source "$root/scripts/setup_environment.sh"

user=$(id -u):$(id -g)
if [ "$(id -u)" = 0 ]; then # a server does not need root's rights
  user=65534:65534
  echo "The server runs as $user and can't open root's shared memory: measure offline with --client-user $user" >&2
fi
# Requests that change the server need a key, which this user's tools find by themselves (docs/server-access.md).
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
library=$("$python" -m deployment_toolkit.server_access)

options=(--rm --user "$user" --env HOME=/tmp --cap-drop ALL --security-opt no-new-privileges)
options+=(--ipc host) # offline measurements pass tensors through shared memory
options+=(--volume "$MODEL_REPOSITORY_PATH:$MODEL_REPOSITORY_PATH:ro")
options+=(--volume "$library:$library:ro" --env "LD_PRELOAD=$library" --env WIDE_DEEP_PRIVATE_OPTIONS)
for inside in 8000 8001 8002; do options+=(--publish "127.0.0.1:$((port + inside - 8000)):$inside"); done
exec "$python" -m deployment_toolkit.server_access --http-port "$port" --grpc-port "$((port + 1))" -- \
  docker run "${options[@]}" "${gpu_options[@]}" "${TRITON_IMAGE:-nvcr.io/nvidia/tritonserver:25.02-py3}" \
  tritonserver "--model-repository=$MODEL_REPOSITORY_PATH" --model-control-mode=explicit "$@"
