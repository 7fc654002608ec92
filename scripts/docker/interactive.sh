#!/usr/bin/env bash
# Opens a shell, or runs a command, in the image of build.sh, in the folder you call it from:
#   [GPUS=all|none|0,1] [IMAGE=wide-deep-deployment] scripts/docker/interactive.sh [command]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
source "$root/scripts/host_checks.sh"
gpus=${GPUS:-all}
[ "$gpus" = none ] || require_gpu "scripts/docker/interactive.sh (without GPUS=none)"
require_docker scripts/docker/interactive.sh
image=${IMAGE:-wide-deep-deployment}
docker image inspect "$image" >/dev/null 2>&1 || fail "there is no image $image: build it with scripts/docker/build.sh"
find_gpu_options "$gpus"

# Same user, same paths, same network and same shared memory as outside, so that a server in another container and the
# scripts in this one see the same files. A run starts that server through Docker's socket, if the host has one; so
# processes in this container have Docker's rights. The server's container never has the socket.
options=(--rm --interactive --user "$(id -u):$(id -g)" --env HOME=/tmp --network host --ipc host)
options+=(--volume "$PWD:$PWD" --volume "$root:$root" --workdir "$PWD" --env "PYTHONPATH=$root")
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
socket=${socket#unix://}
[ ! -S "$socket" ] || options+=(--volume "$socket:/var/run/docker.sock" --group-add "$(stat -c %g "$socket")")
[ ! -t 0 ] || options+=(--tty)
exec docker run "${options[@]}" "${gpu_options[@]}" "$image" "${@:-bash}"
