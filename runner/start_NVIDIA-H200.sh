#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/start_gpu.sh" 'NVIDIA-H200' '\bH200\b' "$@"
