#!/usr/bin/env bash
# On a machine with a Hopper GPU: builds the CUDA preset, runs the GPU tests, and measures training
# steps of the shapes in docs/performance.md, ops and products into
# bench/results/<date>-<gpu>.jsonl. A test or bench that fails is listed at the end, and stops
# nothing before.
#
#   scripts/gpu-check.sh [--no-build] [--tests] [--bench PATTERN] [file]
#
#   --tests           the tests alone
#   --bench PATTERN   no tests, and only benches whose lines (below) match: '*7b*', '*moss*', 'op'
#   file              another file for the results
#
# With --no-build, or a build tree in OCTAVO_BUILD (else build/cuda), nothing is compiled: that takes
# bash, ctest, the CUDA libraries that the programs link, tests/fixtures, and of a tree that was
# built anywhere:
#
#   octavo   CTestTestfile.cmake   tests/CTestTestfile.cmake
#   tests/octavo_{ops,passes,train,engine,backends_cuda}_tests
#
# OCTAVO_JOBS tests (else 8) run side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${OCTAVO_BUILD:-build/cuda}
compile=true tests=true wanted='*' results=''
[ -z "${OCTAVO_BUILD:-}" ] || compile=false
while [ $# -gt 0 ]; do
    case $1 in
        --no-build) compile=false ;;
        --tests) wanted='' ;;
        --bench)
            [ $# -gt 1 ] || { echo "gpu-check: --bench takes a pattern, as '*7b*'" >&2; exit 2; }
            tests=false wanted=$2
            shift
            ;;
        -*)
            echo "gpu-check: unknown option $1; there are --no-build, --tests and --bench" >&2
            exit 2
            ;;
        *) results=$1 ;;
    esac
    shift
done
if $compile; then
    scripts/build.sh cuda
fi
if [ ! -x "$build/octavo" ]; then
    echo "gpu-check: there is no program $build/octavo; build it (scripts/build.sh cuda) or set OCTAVO_BUILD" >&2
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

failures=()
# try LABEL SECONDS COMMAND...
try() {
    local label=$1 seconds=$2 status=0
    shift 2
    echo "== $label"
    timeout "$seconds" "$@" || status=$?
    case $status in
        0) return ;;
        124) label+=": not done after $seconds s" ;;
        *) label+=": exit code $status" ;;
    esac
    failures+=("$label")
}

# The GPU's tests alone, wherever the tree was built: paths in CTest's files are absolute.
run_tests() {
    local source_then='' build_then='' line
    while IFS= read -r line; do
        case $line in
            '# Source directory: '*) source_then=${line#*: } ;;
            '# Build directory: '*) build_then=${line#*: } ;;
        esac
    done < "$build/CTestTestfile.cmake"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    while IFS= read -r line; do
        case $line in
            add_test\(*gpu/* | set_tests_properties\(*gpu/*)
                line=${line//"\"$build_then/"/"\"$build/"}
                printf '%s\n' "${line//"\"$source_then/"/"\"$PWD/"}"
                ;;
        esac
    done < "$build/tests/CTestTestfile.cmake" > "$folder/CTestTestfile.cmake"
    export OCTAVO_FIXTURES=$PWD/tests/fixtures
    try "GPU tests" 3600 ctest --test-dir "$folder" -L gpu -j "${OCTAVO_JOBS:-8}" \
        --no-tests=error --output-on-failure
}
if $tests; then
    run_tests
fi

# Benches: seconds, then what follows `octavo bench`. Of the states, d are what the recipe takes by
# itself; else master, gradient, m and v.
benches=()
steps() {  # SECONDS MODEL BATCH SEQ STATES RECIPE OPTIONS...
    local seconds=$1 model=$2 batch=$3 seq=$4 states=$5 recipe=$6 line
    shift 6
    line="$seconds step --model $model --batch $batch --seq $seq --recipe $recipe"
    if [ "$states" != d ]; then
        local master gradient m v
        IFS=, read -r master gradient m v <<< "$states"
        line+=" --optimizer.master $master --optimizer.gradient $gradient"
        line+=" --optimizer.m $m --optimizer.v $v"
    fi
    benches+=("$line --train.grad_accum=4 --breakdown $*")
}
f32=f32,f32,f32,f32 bf16=bf16,bf16,bf16,bf16 mixed=bf16,bf16,e4m3,e5m2
# The table of docs/performance.md.
steps 150 gpt2-124m      32 1024 $f32   bf16
steps 150 gpt2-124m      32 1024 $f32   fp8-lm
steps 200 tinyllama-1.1b 16 2048 $bf16  bf16
steps 200 tinyllama-1.1b 16 2048 $bf16  fp8-lm
steps 200 qwen2.5-1.5b   32 1024 $bf16  fp8-lm
steps 400 qwen2.5-7b      7 1024 $mixed bf16
steps 400 qwen2.5-7b      6 1024 $mixed fp8-lm
steps 400 llama2-7b       1 4096 $bf16  bf16
steps 400 llama2-7b       2 4096 $mixed fp8-lm
# All recipes side by side.
for shape in "200 qwen2.5-1.5b 24 $bf16" "400 qwen2.5-7b 5 $mixed"; do
    read -r seconds model batch states <<< "$shape"
    steps "$seconds" "$model" "$batch" 1024 "$states" bf16
    steps "$seconds" "$model" "$batch" 1024 "$states" fp8-lm
    steps "$seconds" "$model" "$batch" 1024 "$states" smooth-swiglu
    steps "$seconds" "$model" "$batch" 1024 "$states" smooth-swiglu --smooth.granularity channel
    steps "$seconds" "$model" "$batch" 1024 "$states" blockwise
    steps "$seconds" "$model" "$batch" 1024 "$states" moss --recipe.group 128
    steps "$seconds" "$model" "$batch" 1024 "$states" moss --recipe.group 32
done
for level in O1 O2 O3; do
    steps 200 qwen2.5-1.5b 24 1024 d fp8-lm --recipe.level $level
done
steps 400 qwen2.5-7b 3 1024 d fp8-lm --recipe.level O2 --optimizer.gradient_sum bf16
steps 200 qwen2.5-1.5b 24 1024 d scalify
steps 200 qwen2.5-1.5b 24 1024 d scalify --recipe.run 4
steps 400 qwen2.5-7b 1 1024 d scalify --recipe.run 4 --optimizer.gradient_sum bf16
benches+=("600 op")
for k in 1024 2048 4096 8192 16384; do
    benches+=("150 gemm --m 4096 --n 4096 --k $k")
done
# Experts: Qwen3-30B-A3B and Mixtral 8x7B, 32k tokens.
benches+=("150 gemm --experts 128 --m 262144 --n 768 --k 2048")
benches+=("150 gemm --experts 8 --m 65536 --n 14336 --k 4096")

for bench in "${benches[@]}"; do
    read -r seconds line <<< "$bench"
    # shellcheck disable=SC2053  # a pattern
    [[ $line == $wanted ]] || continue
    record=(--json "$results")
    [ "$line" != op ] || record=()
    # shellcheck disable=SC2086  # words
    try "bench $line" "$seconds" "$octavo" bench $line --backend cuda "${record[@]}"
done

if [ ${#failures[@]} -gt 0 ]; then
    printf 'gpu-check: failed: %s\n' "${failures[@]}" >&2
    exit 1
fi
[ -z "$wanted" ] || echo "results: $results"
