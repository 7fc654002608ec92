#!/usr/bin/env bash
# Makes .venv with the pinned requirements; quick if it is there and current. Needs Python 3.11, 3.12 or 3.13 with venv,
# nothing else.
#   scripts/install.sh [--gpu | --cpu] [--model-analyzer] [--model-navigator] [--dev] [--packages]
#     --gpu: onnxruntime for NVIDIA GPUs, with CUDA, in place of onnxruntime for the CPU; it stays until --cpu
#     --model-analyzer: also .venv-model-analyzer, for --performance-tool model_analyzer
#     --model-navigator: also .venv-model-navigator, for convert --converter triton-model-navigator
#     --dev: all that the tests need
#     --packages: the packages alone, without this checkout's own programs, for a layer of the Dockerfile
#   PYTHON=/path/to/python names the Python. uv does the installing where it is there; INSTALLER=pip does without it.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
unset PIP_CONSTRAINT UV_CONSTRAINT # NVIDIA's images set it, to versions of their own

fail() { echo "error: $*" >&2; exit 1; }

dev="" device="" packages="" overlays=()
for option in "$@"; do
  case "$option" in
    --dev) dev=yes overlays+=(model-analyzer model-navigator) ;;
    --model-analyzer | --model-navigator) overlays+=("${option#--}") ;;
    --packages) packages=yes ;;
    --gpu | --cpu)
      [ "${device:-$option}" = "$option" ] || fail "--gpu and --cpu: there is one onnxruntime, give one of them"
      device=$option ;;
    *) fail "unknown option $option: use --gpu, --cpu, --model-analyzer, --model-navigator, --dev, --packages or none" ;;
  esac
done
case "${INSTALLER:-}" in
  "" | uv) uv=$(command -v uv || true) ;;
  pip) uv="" ;;
  *) fail "INSTALLER=$INSTALLER is neither uv nor pip" ;;
esac
[ -n "$uv" ] || [ "${INSTALLER:-}" != uv ] || fail "INSTALLER=uv, and there is no uv: install it, or leave INSTALLER out"

digest() { cat "$@" | sha256sum | cut -d' ' -f1; }
pins=$(digest constraints.txt requirements-no-deps.txt requirements-perf-analyzer.txt)
wanted=$(digest requirements-dev.txt requirements.txt requirements-no-deps.txt requirements-perf-analyzer.txt \
  constraints.txt pyproject.toml)
stamp=.venv/.installed made=.venv/.made-for gpu_stamp=.venv/.installed-gpu
has() { grep -qxF "$1 $wanted $version" "$stamp" 2>/dev/null; }

# version_of PYTHON: 3.13, or nothing if it can't run or is not one that the pins are for.
version_of() {
  command -v "${1:-no program}" >/dev/null || return 0
  "$1" -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) and print("%d.%d" % v)' 2>/dev/null || true
}

# Names the packages for this system: its own Python, where that is one that the pins are for.
advice_on_python() {
  local system
  system=$( (. /etc/os-release && echo "${ID:-} ${VERSION_ID:-} ${PRETTY_NAME:-}") 2>/dev/null || true)
  local fits="" name="${system#* * }"
  case "$system" in
    "debian 12 "* | "ubuntu 22.04 "*) fits=3.11 ;;
    "ubuntu 24.04 "*) fits=3.12 ;;
    "debian 1"[3-9]* | "ubuntu 2"[4-9].*) fits=3.13 ;;
  esac
  if [ -n "$fits" ]; then
    echo "$name: apt install python$fits python$fits-venv libpython$fits"
  else
    echo "Debian 12: apt install python3.11 python3.11-venv libpython3.11; Ubuntu 24.04: the same of 3.12; newer Debian or" \
      "Ubuntu: of 3.13"
  fi
}

find_python() {
  if [ -n "${PYTHON:-}" ]; then
    [ -n "$(version_of "$PYTHON")" ] || fail "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13: name one, or leave PYTHON out"
    echo "$PYTHON"; return
  fi
  for name in python3 python3.13 python3.12 python3.11; do
    if [ -n "$(version_of "$name")" ]; then echo "$name"; return; fi
  done
  fail "no Python 3.11, 3.12 or 3.13 found: install one ($(advice_on_python)), or name one with PYTHON=/path/to/python3.13"
}

# require_libraries PYTHON
require_libraries() {
  local libraries own library package user
  libraries=$(PATH="$PATH:/usr/sbin:/sbin" ldconfig -p 2>/dev/null || true)
  own=$("$1" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR") or "")')
  while read -r library package user; do
    case "$libraries" in *"$library"*) continue ;; esac
    [ -e "$own/$library" ] || fail "$library is missing, which $user needs: install it (Debian, Ubuntu: apt install $package)"
  done <<EOF_LIBRARIES
libpython$version.so.1.0 libpython$version the server's Python backend
libstdc++.so.6 libstdc++6 TensorFlow
libssl.so.3 libssl3 perf_analyzer
libz.so.1 zlib1g tritonserver
EOF_LIBRARIES
}

# pip_install PYTHON [--loud] ARGUMENTS: the same packages from both programs; neither compiles them, compile_packages does.
pip_install() {
  local into=$1 shown=(--quiet)
  shift
  if [ "$1" = --loud ]; then shown=() && shift; fi
  if [ -n "$uv" ]; then
    "$uv" pip install --python "$into" "${shown[@]}" "$@" || fail "uv could not install it: see above; INSTALLER=pip does without uv"
  else
    "$into" -m pip install --disable-pip-version-check --no-warn-script-location --no-compile "${shown[@]}" "$@" \
      | { grep -v -e '^Requirement already satisfied' -e '^Looking in' -e '^Ignoring ' || true; } || fail "pip could not install it: see above"
  fi
}

# A .venv of other pins or of another Python is made anew: packages that are no longer wanted would stay in it.
make_environment() {
  local python=.venv/bin/python
  [ -z "${PYTHON:-}" ] && [ -n "$version" ] || python=$(find_python)
  version=$(version_of "$python")
  if [ "$(cat "$made" 2>/dev/null)" = "$pins $version" ] && [ "$(version_of .venv/bin/python)" = "$version" ]; then
    require_libraries "$python"
    return
  fi
  [ "$python" != .venv/bin/python ] || python=$(find_python)
  version=$(version_of "$python")
  "$python" -c 'import ensurepip, venv' 2>/dev/null \
    || fail "$python can't make virtual environments: install them (Debian, Ubuntu: apt install python$version-venv)"
  require_libraries "$python"
  [ ! -e .venv/bin ] || echo "making .venv anew: it was made for other packages or another Python"
  "$python" -m venv --clear .venv
  echo "$pins $version" >"$made"
}

install_packages() {
  if has dev || { has packages && [ -z "$dev" ]; }; then return; fi
  local requirements=(-c constraints.txt -r requirements.txt)
  [ -z "$dev" ] || requirements+=(-r requirements-dev.txt)
  if [ -e "$gpu_stamp" ]; then device=${device:---gpu}; fi
  make_environment
  echo "installing the pinned requirements into .venv for Python $version (some minutes and 3 GB the first time)"
  rm -f "$stamp"
  if compgen -G ".venv/lib/python$version/site-packages/onnxruntime_gpu-*" >/dev/null; then remove_onnxruntimes; fi
  pip_install .venv/bin/python --loud "${requirements[@]}"
  install_beside_bounds
  install_perf_analyzer
  echo "compiling them"
  compile_packages ".venv/lib/python$version/site-packages"
  check_packages
  echo "packages $wanted $version" >"$stamp"
}

# The options leave nvtabular's C++ extension out, which this project never imports: no compiler is needed. pip applies them
# to what its command line names, not to what a file does.
install_beside_bounds() {
  local pin rest named=()
  while read -r pin rest; do
    case "$pin" in *==*) named+=("$pin") ;; esac
  done <requirements-no-deps.txt
  pip_install .venv/bin/python --no-deps --no-build-isolation --config-settings=--global-option=build_py \
    --config-settings=--build-option=--skip-build -c constraints.txt "${named[@]}"
}

# The newest perf_analyzer that this host's glibc runs, in a folder of its own beside the packages.
install_perf_analyzer() {
  local glibc pin needed chosen=""
  glibc=$(getconf GNU_LIBC_VERSION) # glibc 2.36
  while read -r pin _ _ needed; do
    case "$pin" in tritonclient==*) [ "${glibc##*.}" -lt "${needed##*.}" ] || chosen=$pin ;; esac
  done <requirements-perf-analyzer.txt
  [ -n "$chosen" ] || fail "perf_analyzer needs glibc 2.34 or newer, this host has $glibc: use a newer system"
  rm -rf .venv/perf_analyzer
  pip_install .venv/bin/python --no-deps --target .venv/perf_analyzer "$chosen"
  rm -f .venv/perf_analyzer/bin/perf_client # a copy of perf_analyzer under its old name
}

# On all cores: pip would do it on one, uv not at all, and the first start of every program would pay for it.
compile_packages() { .venv/bin/python -m compileall -q -j 0 "$1" >/dev/null 2>&1 || true; }

# What pip check says is to be what it said when the pins were tested: packages that are run outside of declared bounds.
check_packages() {
  local said expected more less
  expected=$(grep -v '^#' scripts/pip_check_expected.txt)
  said=$(.venv/bin/python -m pip --disable-pip-version-check check 2>/dev/null || true)
  more=$(grep -vxFf <(echo "$expected") <<<"$said" || true)
  less=$(grep -vxFf <(echo "$said") <<<"$expected" || true)
  [ -z "$more$less" ] || fail "the packages in .venv don't fit together as they were tested: pip check says" \
    "${more:+\"${more//$'\n'/; }\"}${less:+${more:+ and} no longer \"${less//$'\n'/; }\"}; make .venv anew" \
    "(rm -r .venv), or correct the pins and scripts/pip_check_expected.txt"
}

install_checkout() {
  if has dev || { has base && [ -z "$dev" ]; }; then return; fi
  pip_install .venv/bin/python --no-deps --no-build-isolation --editable .
  echo "base $wanted $version" >>"$stamp"
  [ -z "$dev" ] || echo "dev $wanted $version" >>"$stamp"
  compile_libraries
}

# Takes some seconds; if it fails here or the sources change, a later start of a server does it.
compile_libraries() {
  if [ -z "${CXX:-}" ] && ! command -v c++ g++ clang++ >/dev/null \
      && ! .venv/bin/python -c 'import ziglang' 2>/dev/null; then
    echo "there is no C++ compiler: installing one into .venv (80 MB, 400 MB on disk), for the C++ host and the server's key"
    (pip_install .venv/bin/python -r requirements-compiler.txt) || true
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
  local wanted driver installed requirements
  wanted=$(digest requirements-gpu.txt requirements.txt constraints.txt)
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
  (pip_install .venv/bin/python -c constraints.txt "${requirements[@]}") \
    || fail "onnxruntime could not be replaced: see above; scripts/install.sh puts that for the CPU back"
  echo "$installed" >"$stamp"
  if [ "$1" = --gpu ]; then echo "$wanted" >"$gpu_stamp"; fi
}

# install_overlay NAME: .venv-NAME with the packages of requirements-NAME.txt, a venv that sees the packages of
# .venv in addition to its own; its own packages stay out of .venv.
install_overlay() {
  local home=.venv-$1 requirements=requirements-$1.txt wanted packages
  wanted="$(digest "$requirements" requirements.txt constraints.txt) $version"
  if grep -qxF "$wanted" "$home/.installed" 2>/dev/null; then return; fi
  echo "installing $1 into $home (50 MB)"
  .venv/bin/python -m venv --clear --without-pip "$home"
  packages=$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  .venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$packages/venv_beneath.pth"
  pip_install "$home/bin/python" --no-deps -r "$requirements"
  compile_packages "$packages"
  echo "$wanted" >"$home/.installed"
}

version=$(version_of .venv/bin/python)
[ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$version" ] || version=""
install_packages
[ -z "$packages" ] || exit 0
install_checkout
if [ -n "$device" ]; then install_onnxruntime "$device"; fi
for overlay in "${overlays[@]}"; do install_overlay "$overlay"; done
