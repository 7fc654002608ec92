#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/start_gpu.sh" 'NVIDIA-DGX-A100-(1x-A100-80GB)' 'A100.*80GB' "$@"
