#!/usr/bin/env bash
# For Dockerfile.serving: compiles the C++ host and the library that closes endpoints, and copies what serving needs from
# FROM, a folder of installed packages, to the root filesystem TO, with the same path there.
#   scripts/docker/serving/collect.sh FROM TO
set -euo pipefail
from=$1 to=$2
server=$from/pytriton/tritonserver/bin/tritonserver
engine=$from/openvino/libs

compiled() { python3 -c "from deployment_toolkit.$1 import build_library; print(build_library())"; }
host=$(compiled cpp_host.library)
closing=$(compiled server_access.private_options)
install -D -m 755 "$host" "$to$from/backends/cpp_host/$(basename "$host")"
install -D -m 755 "$closing" "$to$from/lib/$(basename "$closing")"

# The engine for the CPU and its reader of models; by their names it opens them and the library of the cores' order.
opened=("$engine"/libopenvino_c.so.* "$engine"/libopenvino_intel_cpu_plugin.so "$engine"/libopenvino_ir_frontend.so.*
  "$engine"/libtbbbind_*.so.*)
copied() {
  case "$1" in "$from"/*) install -D -m 755 "$1" "$to$(realpath --no-symlinks "$1")" ;; esac
}
for file in "$server" "${opened[@]}"; do
  copied "$file"
  needed=$(ldd "$file")
  case "$needed" in *"not found"*) echo "error: $file needs what is not there: $needed" >&2; exit 1 ;; esac
  while read -r _ _ library _; do copied "$library"; done <<<"$needed"
done
for licenses in "$from"/{nvidia_pytriton,openvino}-*.dist-info/licenses; do
  name=$(basename "$(dirname "$licenses")" .dist-info)
  mkdir -p "$to/usr/share/doc/$name"
  cp -r "$licenses/." "$to/usr/share/doc/$name"
done
chmod -R a+rX "$to"
