# The tools of this project: export, conversion, correctness, performance and the runner, in a virtual environment.
#   scripts/docker/build.sh                               on NVIDIA's image, for a GPU host
#   FROM_IMAGE_NAME=debian:12 scripts/docker/build.sh     on a plain Debian 12, Ubuntu 22.04 or 24.04
# 24.05 is the newest of NVIDIA's with this project's TensorFlow, 2.15 (24.06 has 2.16, with Keras 3).
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/tensorflow:24.05-tf2-py3
FROM ${FROM_IMAGE_NAME}

# Ubuntu 24.04, which NVIDIA's are from 24.11 on, has no package of Python 3.11, the version that all pins agree on.
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && if [ -z "$(apt-cache search --names-only '^python3\.11$')" ]; then \
        apt-get install --yes --no-install-recommends gpg-agent software-properties-common \
        && add-apt-repository --yes ppa:deadsnakes/ppa; fi \
    && apt-get install --yes --no-install-recommends \
        g++ libpython3.11 libssl3 libstdc++6 python3.11 python3.11-venv zlib1g \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/wide_deep
# First what changes seldom: a changed source file doesn't install 3 GB again.
COPY scripts/docker/install_tensorrt.sh requirements.txt constraints.txt ./
RUN python3.11 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt \
    && bash install_tensorrt.sh && rm install_tensorrt.sh
COPY . .
# Any user may run it, also where the sources are for their owner's eyes only.
# NVIDIA's Triton serves with its own server, not with the one that pip installed.
RUN find . -path ./.venv -prune -o ! -type l -exec chmod a+rX {} + \
    && scripts/install.sh \
    && if command -v tritonserver; then rm .venv/bin/tritonserver; fi

# Before the base image's own Python; no TensorFlow start-up messages.
ENV PATH=/opt/wide_deep/.venv/bin:${PATH} TF_CPP_MIN_LOG_LEVEL=2
CMD ["bash"]
