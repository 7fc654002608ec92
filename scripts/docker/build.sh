#!/usr/bin/env bash
# Builds the image of this project's tools, on NVIDIA's TensorFlow image or on a plain Debian or Ubuntu:
#   [FROM_IMAGE_NAME=debian:13] [IMAGE=wide-deep-deployment] scripts/docker/build.sh [options of docker build]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/host_checks.sh"
require_docker scripts/docker/build.sh
base=()
[ -z "${FROM_IMAGE_NAME:-}" ] || base=(--build-arg "FROM_IMAGE_NAME=$FROM_IMAGE_NAME")
exec docker build --file "$root/Dockerfile" --tag "${IMAGE:-wide-deep-deployment}" "${base[@]}" "$@" "$root"
