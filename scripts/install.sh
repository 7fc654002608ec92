#!/usr/bin/env bash
# Makes .venv with the pinned requirements; quick if it is there and current. Needs Python 3.11 with venv, nothing else.
#   scripts/install.sh [--gpu | --cpu] [--model-analyzer] [--model-navigator] [--dev]
#     --gpu: onnxruntime for NVIDIA GPUs, with CUDA, in place of onnxruntime for the CPU; it stays until --cpu
#     --model-analyzer: also .venv-model-analyzer, for --performance-tool model_analyzer
#     --model-navigator: also .venv-model-navigator, for convert --converter triton-model-navigator
#     --dev: all that the tests need
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

fail() { echo "error: $*" >&2; exit 1; }

dev="" overlays=() device=""
for option in "$@"; do
  case "$option" in
    --dev) dev=yes overlays+=(model-analyzer model-navigator) ;;
    --model-analyzer | --model-navigator) overlays+=("${option#--}") ;;
    --gpu | --cpu)
      [ "${device:-$option}" = "$option" ] || fail "--gpu and --cpu: there is one onnxruntime, give one of them"
      device=$option ;;
    *) fail "unknown option $option: use --gpu, --cpu, --model-analyzer, --model-navigator, --dev or none" ;;
  esac
done

find_python() {
  for name in "${PYTHON:-}" python3.11 python3; do
    if [ -n "$name" ] && command -v "$name" >/dev/null \
        && "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      echo "$name"; return
    fi
  done
  fail "no Python 3.11 found: install it (Debian 12: apt install python3.11 python3.11-venv; Ubuntu: the same from the" \
    "deadsnakes archive), or name one with PYTHON=/path/to/python3.11"
}

wanted=$(cat requirements-dev.txt requirements.txt constraints.txt pyproject.toml | sha256sum | cut -d' ' -f1)
stamp=.venv/.installed gpu_stamp=.venv/.installed-gpu
has() { grep -qxF "$1 $wanted" "$stamp" 2>/dev/null; }

install_base() {
  if has dev || { has base && [ -z "$dev" ]; }; then return; fi
  requirements=(-c constraints.txt -r requirements.txt)
  [ -n "$dev" ] && requirements+=(-r requirements-dev.txt)
  python=$(find_python)
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python can't make virtual environments: install them (Debian, Ubuntu: apt install python3.11-venv)"
  libraries=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)
  own=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")')
  while read -r library package user; do
    case "$libraries" in *"$library"*) continue ;; esac
    [ -e "$own/$library" ] || fail "$library is missing, which $user needs: install it (Debian, Ubuntu: apt install $package)"
  done <<'EOF_LIBRARIES'
libpython3.11.so.1.0 libpython3.11 the server's Python backend
libstdc++.so.6 libstdc++6 TensorFlow
libssl.so.3 libssl3 perf_analyzer
libz.so.1 zlib1g tritonserver
EOF_LIBRARIES

  echo "installing the pinned requirements into .venv (some minutes and 3 GB the first time)"
  rm -f "$stamp"
  if [ -e "$gpu_stamp" ]; then device=${device:---gpu}; fi
  if compgen -G '.venv/lib/python3.11/site-packages/onnxruntime_gpu-*' >/dev/null; then remove_onnxruntimes; fi
  [ -x .venv/bin/python ] && .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
    || "$python" -m venv --clear .venv
  .venv/bin/python -m pip install --disable-pip-version-check --no-warn-script-location --progress-bar on \
    "${requirements[@]}" | { grep -v '^Requirement already satisfied' || true; } \
    || fail "pip could not install the requirements: see above"
  .venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --editable .
  echo "base $wanted" >"$stamp"
  [ -n "$dev" ] && echo "dev $wanted" >>"$stamp"
  compile_libraries
}

# Takes some seconds; if it fails here or the sources change, a later start of a server does it.
compile_libraries() {
  if [ -z "${CXX:-}" ] && ! command -v c++ g++ clang++ >/dev/null \
      && ! .venv/bin/python -c 'import ziglang' 2>/dev/null; then
    echo "there is no C++ compiler: installing one into .venv (80 MB, 400 MB on disk), for the C++ host and the server's key"
    .venv/bin/python -m pip install --disable-pip-version-check --quiet -r requirements-compiler.txt || true
  fi
  .venv/bin/python -m deployment_toolkit.cpp_host >/dev/null \
    || echo "without the C++ host (see above) all works but models that are to run in it"
  .venv/bin/python -m deployment_toolkit.server_access >/dev/null \
    || echo "without a way to keep its key from other users (see above) no server is started"
}

# The packages for the CPU and for GPUs write the same files, so neither can be installed over the other.
remove_onnxruntimes() {
  rm -f "$gpu_stamp"
  .venv/bin/python -m pip uninstall --yes --quiet onnxruntime -r requirements-gpu.txt 2>/dev/null || true
}

# If this is interrupted, the stamp of the base is missing, and the next call installs onnxruntime for the CPU again.
install_onnxruntime() {
  local wanted driver installed
  wanted=$(cat requirements-gpu.txt requirements.txt constraints.txt | sha256sum | cut -d' ' -f1)
  if [ "$1" = --cpu ]; then
    [ -e "$gpu_stamp" ] || return 0
  else
    if grep -qxF "$wanted" "$gpu_stamp" 2>/dev/null; then return; fi
    driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null || true)
    driver=${driver%%.*}
    [ "${driver:-580}" -ge 580 ] || fail "NVIDIA's driver is $driver, CUDA 13 needs 580 or newer: update it, or serve" \
      "in containers (triton_launch_mode docker)"
    echo "installing onnxruntime for GPUs with CUDA 13 into .venv (2.6 GB)"
  fi
  installed=$(cat "$stamp")
  rm -f "$stamp"
  remove_onnxruntimes
  if [ "$1" = --gpu ]; then requirements=(-r requirements-gpu.txt); else requirements=(onnxruntime); fi
  .venv/bin/python -m pip install --disable-pip-version-check --quiet -c constraints.txt "${requirements[@]}" \
    || fail "pip could not install it: see above; scripts/install.sh puts the onnxruntime for the CPU back"
  echo "$installed" >"$stamp"
  if [ "$1" = --gpu ]; then echo "$wanted" >"$gpu_stamp"; fi
}

# A venv that sees the packages of .venv in addition to its own; its own packages stay out of .venv.
install_overlay() {
  local home=.venv-$1 requirements=requirements-$1.txt wanted
  wanted=$(cat "$requirements" requirements.txt constraints.txt | sha256sum | cut -d' ' -f1)
  if grep -qxF "$wanted" "$home/.installed" 2>/dev/null; then return; fi
  echo "installing $1 into $home (50 MB)"
  .venv/bin/python -m venv --clear --without-pip "$home"
  .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
    >"$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/venv_beneath.pth"
  "$home/bin/python" -m pip install --disable-pip-version-check --no-warn-script-location --quiet --no-deps \
    -r "$requirements" || fail "pip could not install $1: see above"
  echo "$wanted" >"$home/.installed"
}

install_base
if [ -n "$device" ]; then install_onnxruntime "$device"; fi
for overlay in "${overlays[@]}"; do install_overlay "$overlay"; done
