#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/start_gpu.sh" 'NVIDIA-A30' '\bA30\b' "$@"
