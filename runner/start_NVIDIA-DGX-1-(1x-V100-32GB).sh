#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/start_gpu.sh" 'NVIDIA-DGX-1-(1x-V100-32GB)' 'V100.*32GB' "$@"
