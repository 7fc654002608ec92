#!/usr/bin/env bash
# Installs what is missing and runs every test, style and types among them (tests/test_style.py). A worker runs a file, or
# a group of them. Many tests wait for a server, so there are two workers for each core, if each has 4 GiB of memory. A
# test that fails is run once more, since other work on a shared host can stop a server for seconds; the summary names it
# with an R, as something to look at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/install.sh --dev
scripts/install_browser.sh
scripts/install_cluster_tools.sh
workers=$((2 * $(nproc)))
memory_gib=$(awk '/^MemTotal:/ { print int($2 / 1048576) }' /proc/meminfo)
[ $((4 * workers)) -le "$memory_gib" ] || workers=$((memory_gib / 4))
[ "$workers" -ge 1 ] || workers=1
# Else each start of a Python with numpy burns 0.04 s of a core, in which OpenBLAS's threads look for work.
export OPENBLAS_NUM_THREADS=1
exec .venv/bin/python -m pytest --numprocesses "$workers" --dist loadgroup --no-loadscope-reorder \
  --reruns 1 --rerun-show-tracebacks -raR "$@"
