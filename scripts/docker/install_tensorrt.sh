#!/usr/bin/env bash
# A step of the Dockerfile. On an image of NVIDIA's Triton it installs the Python package of the image's TensorRT, since
# only the version that built a plan can load it. The image names the version: TRT_VERSION=10.11.0.33+cuda12.9, or
# without CUDA's version, which is then in CUDA_VERSION. On any other image it does nothing.
set -euo pipefail
if [ -z "${TRITON_SERVER_VERSION:-}" ] || [ -z "${TRT_VERSION:-}" ]; then exit 0; fi
IFS=. read -r major minor patch _ <<<"${TRT_VERSION%%[+-]*}"
if [ "$major" -lt 10 ]; then
  echo "TensorRT $TRT_VERSION has no Python package that this project can use (10 or later): no plans are made here"
  exit 0
fi
cuda=${CUDA_VERSION:-12}
case $TRT_VERSION in *+cuda*) cuda=${TRT_VERSION##*+cuda} ;; esac
# Some releases of the package have a fourth number, others have not. NVIDIA's images have constraints of their own.
env -u PIP_CONSTRAINT .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt \
  "tensorrt-cu${cuda%%.*}==$major.$minor.$patch.*"
