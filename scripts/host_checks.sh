# shellcheck shell=bash disable=SC2034
# Sourced by the scripts that need a GPU or Docker: each check ends the script with one line that names the remedy.

# advice, if a script has set it, is added to the error message.
fail() { echo "error: $*${advice:+. $advice}" >&2; exit 1; }

# require_gpu WHO: sets gpu_name, the product name of the first GPU.
require_gpu() {
  command -v nvidia-smi >/dev/null || fail "$1 needs an NVIDIA GPU and this machine shows none: there is no nvidia-smi." \
    "Install NVIDIA's driver, or use runner/start_CPU.sh, which needs neither GPU nor Docker"
  local names
  names=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1) || fail "$1 needs an NVIDIA GPU and nvidia-smi shows" \
    "none: ${names%%$'\n'*}. Mend or load NVIDIA's driver, or use runner/start_CPU.sh"
  gpu_name=${names%%$'\n'*}
  [ -n "$gpu_name" ] || fail "$1 needs an NVIDIA GPU and nvidia-smi lists none: use runner/start_CPU.sh"
}

# require_docker WHO: a Docker command line whose engine answers.
require_docker() {
  command -v docker >/dev/null || fail "$1 needs Docker and there is no docker command: install it" \
    "(https://docs.docker.com/engine/install), or use runner/start_CPU.sh, which needs none"
  local said
  said=$(docker info --format '{{.ServerVersion}}' 2>&1) || fail "$1 needs Docker and its engine does not answer:" \
    "${said##*$'\n'} Start it (systemctl start docker), or join the group docker"
}

# find_gpu_options GPUS: sets gpu_options, with which a container sees these GPUs (all, none, or indices as 0,1).
find_gpu_options() {
  gpu_options=()
  [ "$1" != none ] || return 0
  [[ $(docker version --format '{{json .Server.Components}}') != *Podman* ]] || fail "podman starts containers without" \
    "the GPUs that the docker command asks for: use Docker (https://docs.docker.com/engine/install)"
  local devices=$1
  [ "$1" = all ] || devices="\"device=$1\""
  local by_request=(--gpus "$devices") by_runtime=(--runtime=nvidia --env "NVIDIA_VISIBLE_DEVICES=$1")
  # Docker from 19.03 on gives GPUs by request if it finds the toolkit's hook, which not all of its packages have.
  if docker run --help | grep -q -- --gpus && command -v nvidia-container-runtime-hook >/dev/null; then
    gpu_options=("${by_request[@]}")
  elif [[ $(docker info --format '{{json .Runtimes}}') == *nvidia* ]]; then
    gpu_options=("${by_runtime[@]}")
  elif command -v nvidia-ctk >/dev/null; then # a newer Docker, by CDI
    gpu_options=("${by_request[@]}")
  else
    fail "containers can't see the GPU without NVIDIA's Container Toolkit: install it" \
      "(https://docs.nvidia.com/datacenter/cloud-native/container-toolkit) and restart Docker"
  fi
  gpu_options+=(--ulimit memlock=-1 --ulimit stack=67108864) # CUDA pins memory; NVIDIA recommends both
}

# require_disk FOLDER GB WHAT_FOR
require_disk() {
  local free
  free=$(df --output=avail -BG "$1" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge "$2" ] || fail "$3 need $2 GB on the disk of $1, $free GB are free: make room, or use another disk"
}
