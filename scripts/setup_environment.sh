#!/usr/bin/env bash
# Paths of data, checkpoints, models and results for the steps by hand: below the current folder, or below WORKDIR.
#   source scripts/setup_environment.sh
# Variables that are set already stay. The checkout's .venv, if there is one, comes first on the PATH.
if [ "${BASH_SOURCE[0]:-}" = "$0" ]; then
  echo "error: this shell would forget the variables: call it as  source $0" >&2
  exit 1
fi
export DATASETS_DIR="${DATASETS_DIR:-${WORKDIR:-$PWD}/datasets}"
export WORKSPACE_DIR="${WORKSPACE_DIR:-${WORKDIR:-$PWD}/runner_workspace}"
export CHECKPOINTS_DIR="${CHECKPOINTS_DIR:-$WORKSPACE_DIR/checkpoints}"
export MODEL_REPOSITORY_PATH="${MODEL_REPOSITORY_PATH:-$WORKSPACE_DIR/model_store}"
export SHARED_DIR="${SHARED_DIR:-$WORKSPACE_DIR/shared_dir}"
export MODEL_NAME="${MODEL_NAME:-WidenDeep}"
_checkout="$(cd "$(dirname "${BASH_SOURCE[0]:-$0}")/.." && pwd)"
case ":$PATH:" in
  *":$_checkout/.venv/bin:"*) ;;
  *) [ ! -x "$_checkout/.venv/bin/python" ] || export PATH="$_checkout/.venv/bin:$PATH" ;;
esac
unset _checkout
mkdir -p "$DATASETS_DIR" "$CHECKPOINTS_DIR" "$MODEL_REPOSITORY_PATH" "$SHARED_DIR"
