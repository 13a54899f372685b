#!/usr/bin/env bash
# On a machine with a Hopper GPU: builds the CUDA preset, runs the GPU tests, and measures training
# steps of the shapes in bench/results/README.md into bench/results/<date>-<gpu>.jsonl.
#
#   scripts/gpu-check.sh [file]   another file for the results
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh cuda
build/cuda/octavo doctor
ctest --test-dir build/cuda -L gpu --output-on-failure

gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1 | tr ' /' '--')
results=${1:-bench/results/$(date +%F)-$gpu.jsonl}

# model, micro-batch, sequence length
shapes=(
    "gpt2-124m 32 1024"
    "tinyllama-1.1b 8 2048"
    "qwen2.5-1.5b 16 1024"
)
for shape in "${shapes[@]}"; do
    read -r model batch seq <<< "$shape"
    for recipe in bf16 fp8-lm; do
        echo "== $model, $batch x $seq, $recipe"
        build/cuda/octavo bench step --backend cuda --model "$model" --batch "$batch" \
            --seq "$seq" --recipe "$recipe" --train.grad_accum=4 --breakdown --json "$results"
    done
done
echo "results: $results"
