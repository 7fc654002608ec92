#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/start_gpu.sh" 'NVIDIA-T4' '\bT4\b' "$@"
