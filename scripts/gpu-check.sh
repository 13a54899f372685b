#!/usr/bin/env bash
# On a machine with a Hopper GPU: builds the CUDA preset, runs the GPU tests, and measures training
# steps of the shapes in bench/results/README.md into bench/results/<date>-<gpu>.jsonl.
#
#   scripts/gpu-check.sh [--no-build] [file]   another file for the results
#
# With --no-build, or a build tree in OCTAVO_BUILD (else build/cuda), nothing is compiled: that takes
# a tree that was built anywhere, bash, ctest, and the CUDA libraries that the programs link.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${OCTAVO_BUILD:-build/cuda}
compile=true
[ -z "${OCTAVO_BUILD:-}" ] || compile=false
results=''
for argument in "$@"; do
    case $argument in
        --no-build) compile=false ;;
        -*) echo "gpu-check: unknown option $argument; there is --no-build" >&2; exit 2 ;;
        *) results=$argument ;;
    esac
done
if $compile; then
    scripts/build.sh cuda
fi
octavo=$build/octavo
if [ ! -x "$octavo" ]; then
    echo "gpu-check: there is no program $octavo; build it (scripts/build.sh cuda) or set OCTAVO_BUILD" >&2
    exit 1
fi
build=$(cd "$build" && pwd)
octavo=$build/octavo

machine=$("$octavo" doctor)
echo "$machine"
gpu=''
while read -r key value; do
    if [ "$key" = GPU ] && [ -z "$gpu" ]; then gpu=${value%%,*}; fi
done <<< "$machine"
case $gpu in
    '' | none:*) echo "gpu-check: $octavo sees no GPU (${gpu:-a build without CUDA})" >&2; exit 1 ;;
esac
results=${results:-bench/results/$(date +%F)-${gpu//[ \/]/-}.jsonl}

# The GPU's tests alone, wherever the tree was built: paths in CTest's files are absolute.
listed=$build/tests/CTestTestfile.cmake
source_then='' build_then=''
while IFS= read -r line; do
    case $line in
        '# Source directory: '*) source_then=${line#*: } ;;
        '# Build directory: '*) build_then=${line#*: } ;;
    esac
done < "$build/CTestTestfile.cmake"
tests=$(mktemp -d)
trap 'rm -rf "$tests"' EXIT
while IFS= read -r line; do
    case $line in
        add_test\(*gpu/* | set_tests_properties\(*gpu/*)
            line=${line//"\"$build_then/"/"\"$build/"}
            printf '%s\n' "${line//"\"$source_then/"/"\"$PWD/"}"
            ;;
    esac
done < "$listed" > "$tests/CTestTestfile.cmake"
export OCTAVO_FIXTURES=$PWD/tests/fixtures
ctest --test-dir "$tests" -L gpu --no-tests=error --output-on-failure

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
    "$octavo" bench step --backend cuda --model "$model" --batch "$batch" --seq "$seq" \
        --recipe "$recipe" --recipe.level "${level:-O0}" --train.grad_accum=4 --breakdown \
        --optimizer.master "$master" --optimizer.gradient "$gradient" --optimizer.m "$m" \
        --optimizer.v "$v" --json "$results"
done
"$octavo" bench op --backend cuda
for k in 1024 2048 4096 8192 16384; do
    "$octavo" bench gemm --backend cuda --m 4096 --n 4096 --k "$k" --json "$results"
done
echo "results: $results"
