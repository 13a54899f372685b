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

# model, recipe, micro-batch, sequence length, master, gradient, m, v, level: the table of
# docs/performance.md, and the levels of fp8-lm
shapes=(
    "tinyllama-1.1b bf16   16 2048 bf16 bf16 bf16 bf16"
    "tinyllama-1.1b fp8-lm 16 2048 bf16 bf16 bf16 bf16"
    "gpt2-124m      bf16   32 1024 f32  f32  f32  f32"
    "gpt2-124m      fp8-lm 32 1024 f32  f32  f32  f32"
    "qwen2.5-1.5b   bf16   24 1024 bf16 bf16 bf16 bf16"
    "qwen2.5-1.5b   fp8-lm 32 1024 bf16 bf16 bf16 bf16"
    "qwen2.5-7b     bf16   7  1024 bf16 bf16 e4m3 e5m2"
    "qwen2.5-7b     fp8-lm 6  1024 bf16 bf16 e4m3 e5m2"
    "llama2-7b      bf16   1  4096 bf16 bf16 bf16 bf16"
    "llama2-7b      fp8-lm 2  4096 bf16 bf16 e4m3 e5m2"
    "qwen2.5-1.5b   fp8-lm 24 1024 auto auto auto auto O1"
    "qwen2.5-1.5b   fp8-lm 24 1024 auto auto auto auto O3"
)
for shape in "${shapes[@]}"; do
    read -r model recipe batch seq master gradient m v level <<< "$shape"
    echo "== $model, $batch x $seq, $recipe $level"
    build/cuda/octavo bench step --backend cuda --model "$model" --batch "$batch" --seq "$seq" \
        --recipe "$recipe" --recipe.level "${level:-O0}" --train.grad_accum=4 --breakdown \
        --optimizer.master "$master" --optimizer.gradient "$gradient" --optimizer.m "$m" \
        --optimizer.v "$v" --json "$results"
done
build/cuda/octavo bench op --backend cuda
for k in 1024 2048 4096 8192 16384; do
    build/cuda/octavo bench gemm --backend cuda --m 4096 --n 4096 --k "$k" --json "$results"
done
echo "results: $results"
