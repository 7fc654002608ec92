# The tools of this project: export, conversion, correctness, performance and the runner, in a virtual environment.
#   scripts/docker/build.sh                               on NVIDIA's image, for a GPU host
#   FROM_IMAGE_NAME=debian:12 scripts/docker/build.sh     on a plain Debian 12 or Ubuntu 22.04
# 24.03 is the newest of NVIDIA's with this project's TensorFlow, 2.15. Later ones from 24.11 on are Ubuntu 24.04, which
# has no package of Python 3.11, the version that all pins agree on.
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/tensorflow:24.03-tf2-py3
FROM ${FROM_IMAGE_NAME}

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
        libpython3.11 libssl3 libstdc++6 python3.11 python3.11-venv zlib1g \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/wide_deep
# First what changes seldom: a changed source file doesn't install 3 GB again.
COPY requirements.txt constraints.txt ./
RUN python3.11 -m venv .venv \
    && .venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check -c constraints.txt -r requirements.txt
COPY . .
RUN scripts/install.sh

# Before the base image's own Python; no TensorFlow start-up messages.
ENV PATH=/opt/wide_deep/.venv/bin:${PATH} TF_CPP_MIN_LOG_LEVEL=2
CMD ["bash"]
