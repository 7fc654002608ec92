#!/usr/bin/env bash
# Repeats experiment 1 of run 20261128T140610Z, command by command as they were run:
#   bash replay.sh [FOLDER]
# Models, dumps and results go to FOLDER (default: replay/ beside this script); this run's own results are not touched.
# It uses the checkout that it lies in, else the one that ran it; PROJECT=/path names another.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=$(realpath -m "${1:-$here/replay}")
mkdir -p "$out/results" "$out/shared" "$out/model_store"
cd "${PROJECT:-$here}"
while [ ! -e export_model.py ] && [ "$PWD" != / ]; do cd ..; done
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TF_CPP_MIN_LOG_LEVEL=2

echo '== export: export'
.venv/bin/python export_model.py --input-path model.py --input-type tf-keras --checkpoint-dir runner_workspace/checkpoints/widedeep_tf2_amp_base_128k_nvtabular/checkpoint --precision fp32 --output-path "$out"/shared/exported_model.savedmodel --output-type tf-savedmodel --torch-jit none --ignore-unknown-parameters --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json

echo '== convert: convert'
.venv/bin/model-navigator convert --model-name WidenDeep --workspace-path "$out"/shared/navigator_workspace --verbose --model-path "$out"/shared/exported_model.savedmodel --output-path "$out"/shared/converted_model --target-formats tf-savedmodel --target-precisions fp32 --launch-mode local --override-workspace --max-batch-size 4096 --atol 1e-05 --rtol 0.0001 --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json

echo '== tritonserver'
rm -f "$out/server_is_ready"
.venv/bin/python -m deployment_toolkit.triton_server --model-repository "$out"/model_store --http-port 34067 --grpc-port 38091 --load-method explicit --log-path "$out/tritonserver.log" --ready-file "$out/server_is_ready" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" || true' EXIT
until [ -e "$out/server_is_ready" ]; do kill -0 "$server"; sleep 0.2; done

echo '== deploy: deploy'
.venv/bin/model-navigator triton-config-model --model-name WidenDeep --workspace-path "$out"/shared/navigator_workspace --verbose --model-path "$out"/shared/converted_model --model-format tf-savedmodel --model-repository "$out"/model_store --model-version 1 --model-control-mode explicit --load-model --load-model-timeout-s 120 --batching dynamic --backend-accelerator none --max-batch-size 4096 --preferred-batch-sizes 4096 --engine-count-per-device cpu=1 --host python --server-url grpc://127.0.0.1:38091

echo '== correctness: inference_framework'
.venv/bin/python run_inference_on_fw.py --input-path model.py --input-type tf-keras --checkpoint-dir runner_workspace/checkpoints/widedeep_tf2_amp_base_128k_nvtabular/checkpoint --precision fp32 --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --output-dir "$out"/shared/dumps/framework --dump-labels

echo '== correctness: inference_grpc_async'
.venv/bin/python run_inference_on_triton.py --server-url grpc://127.0.0.1:38091 --model-name WidenDeep --model-version 1 --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --output-dir "$out"/shared/dumps/grpc_async --dump-labels

echo '== correctness: inference_grpc_sync'
.venv/bin/python run_inference_on_triton.py --server-url grpc://127.0.0.1:38091 --model-name WidenDeep --model-version 1 --synchronous --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --output-dir "$out"/shared/dumps/grpc_sync --dump-labels

echo '== correctness: inference_http_async'
.venv/bin/python run_inference_on_triton.py --server-url http://127.0.0.1:34067 --model-name WidenDeep --model-version 1 --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --output-dir "$out"/shared/dumps/http_async --dump-labels

echo '== correctness: inference_http_sync'
.venv/bin/python run_inference_on_triton.py --server-url http://127.0.0.1:34067 --model-name WidenDeep --model-version 1 --synchronous --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --output-dir "$out"/shared/dumps/http_sync --dump-labels

echo '== correctness: metrics_framework'
.venv/bin/python calculate_metrics.py --metrics metrics.py --dump-dir "$out"/shared/dumps/framework --csv "$out"/results/metrics_framework.csv

echo '== correctness: metrics_grpc_async'
.venv/bin/python calculate_metrics.py --metrics metrics.py --dump-dir "$out"/shared/dumps/grpc_async --csv "$out"/results/metrics_grpc_async.csv

echo '== correctness: metrics_grpc_sync'
.venv/bin/python calculate_metrics.py --metrics metrics.py --dump-dir "$out"/shared/dumps/grpc_sync --csv "$out"/results/metrics_grpc_sync.csv

echo '== correctness: metrics_http_async'
.venv/bin/python calculate_metrics.py --metrics metrics.py --dump-dir "$out"/shared/dumps/http_async --csv "$out"/results/metrics_http_async.csv

echo '== correctness: metrics_http_sync'
.venv/bin/python calculate_metrics.py --metrics metrics.py --dump-dir "$out"/shared/dumps/http_sync --csv "$out"/results/metrics_http_sync.csv

echo '== correctness: gate'
.venv/bin/python check_correctness.py --metrics metrics.py --reference-dump-dir "$out"/shared/dumps/framework --dump-dir "$out"/shared/dumps/grpc_async --dump-dir "$out"/shared/dumps/grpc_sync --dump-dir "$out"/shared/dumps/http_async --dump-dir "$out"/shared/dumps/http_sync --atol 1e-05 --rtol 0.0001 --max-metric-loss map12=0.0001 --csv "$out"/results/correctness.csv

echo '== performance offline: performance_offline'
.venv/bin/python run_performance_on_triton.py --server-url grpc://127.0.0.1:38091 --model-name WidenDeep --model-repository "$out"/model_store --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --batch-sizes 1 1024 2048 3072 4096 --concurrency 1 --evaluation-mode offline --performance-tool perf_analyzer --warmup --measurement-request-count 17 --retries 1 --stability-percentage 10.0 --result-path "$out"/results/triton_performance_offline.csv

echo '== performance online: performance_online'
.venv/bin/python run_performance_on_triton.py --server-url http://127.0.0.1:34067 --model-name WidenDeep --model-repository "$out"/model_store --dataloader dataloader.py --data-pattern 'datasets/outbrain/valid/*.parquet' --batch-size 4096 --feature-spec datasets/outbrain/feature_spec.yaml --embedding-sizes datasets/outbrain/embedding_sizes.json --batch-sizes 32 --concurrency 64 128 192 256 --evaluation-mode online --performance-tool perf_analyzer --warmup --measurement-request-count 17 --retries 1 --stability-percentage 10.0 --result-path "$out"/results/triton_performance_online.csv
