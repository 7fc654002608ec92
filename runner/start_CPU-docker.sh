#!/usr/bin/env bash
# The main job of start_CPU.sh with the server in a container: also checks for Docker, and builds the server's image the
# first time. Data and results are in the folder you call it from.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/scripts/host_checks.sh"
require_docker runner/start_CPU-docker.sh
require_disk "$PWD" 10 "models and results"
images=$(docker info --format '{{.DockerRootDir}}')
if [ -d "$images" ] && [ -z "$(docker images --quiet wide-deep-tritonserver)" ]; then
  require_disk "$images" 8 "the server's image and its build"
fi
"$root/scripts/install.sh"
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$root/.venv/bin/python" -m runner --config-path "$root/runner/config_CPU-docker.yaml" --devices 0 "$@"
