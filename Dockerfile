# The tools of this project: export, conversion, correctness, performance and the runner, in a virtual environment.
#   scripts/docker/build.sh                               on NVIDIA's image, for a GPU host
#   FROM_IMAGE_NAME=debian:13 scripts/docker/build.sh     on a plain Debian 12 or 13, Ubuntu 22.04 or 24.04
# It takes the base's own Python, if that is 3.11, 3.12 or 3.13. 25.02 is the last of NVIDIA's with TensorFlow, on Python
# 3.12; the TensorFlow of this environment is that of requirements.txt.
ARG FROM_IMAGE_NAME=nvcr.io/nvidia/tensorflow:25.02-tf2-py3
FROM ${FROM_IMAGE_NAME}

# Ubuntu 22.04, on which NVIDIA's images are up to 24.10, has Python 3.11 beside its own 3.10.
ARG DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') \
    && if [ "$version" = 3.10 ]; then version=3.11; fi \
    && apt-get install --yes --no-install-recommends \
        g++ libpython$version libssl3 libstdc++6 python$version python$version-venv zlib1g \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/wide_deep
# First what changes seldom: a changed source file doesn't install 3 GB again, nor compile the libraries in C++.
COPY requirements*.txt constraints.txt pyproject.toml ./
COPY scripts/install.sh scripts/pip_check_expected.txt scripts/docker/install_tensorrt.sh scripts/
RUN PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 scripts/install.sh --packages && bash scripts/install_tensorrt.sh
COPY deployment_toolkit/__init__.py deployment_toolkit/errors.py deployment_toolkit/process.py deployment_toolkit/
COPY deployment_toolkit/cpp_host deployment_toolkit/cpp_host
COPY deployment_toolkit/endings deployment_toolkit/endings
COPY deployment_toolkit/files deployment_toolkit/files
COPY deployment_toolkit/server_access deployment_toolkit/server_access
RUN .venv/bin/python -c "from deployment_toolkit.cpp_host.library import build_library as host; \
    from deployment_toolkit.server_access.private_options import build_library as closing; host(); closing()"
COPY . .
# Any user may run it, also where the sources are for their owner's eyes only.
# NVIDIA's Triton serves with its own server, not with the one that pip installed.
RUN find . -path ./.venv -prune -o ! -type l -exec chmod a+rX {} + \
    && rm scripts/install_tensorrt.sh && scripts/install.sh \
    && if command -v tritonserver; then rm .venv/bin/tritonserver; fi

# Before the base image's own Python; no TensorFlow start-up messages.
ENV PATH=/opt/wide_deep/.venv/bin:${PATH} TF_CPP_MIN_LOG_LEVEL=2
CMD ["bash"]
