#!/usr/bin/env bash
# On a machine with a Hopper GPU: builds the CUDA preset, runs the GPU tests, and measures training
# steps of the shapes in docs/performance.md, all recipes side by side, ops and products into
# bench/results/<date>-<gpu>.jsonl. A test or bench that fails is listed at the end, and stops
# nothing before.
#
#   scripts/gpu-check.sh [--no-build] [STAGE...] [--only PATTERN] [file]
#
#   --tests           the tests that ctest -L gpu runs
#   --bench           training steps of docs/performance.md, and ops
#   --recipes         training steps of every recipe, of docs/recipes/README.md
#   --gemm            products: over K with their errors, of docs/recipes/moss.md, of experts
#   --sanitize        memcheck, racecheck and initcheck of compute-sanitizer over the op tests
#   --only PATTERN    of the benches only those whose lines (below) match: '*7b*', '*moss*', 'op'
#   file              another file for the results
#
# Without a stage, all of them; each takes less than ten minutes on an H100 with 16 cores.
#
# With --no-build, or a build tree in OCTAVO_BUILD (else build/cuda), nothing is compiled: that takes
# bash, ctest, the CUDA libraries that the programs link, tests/fixtures, and of a tree that was
# built anywhere:
#
#   octavo   CTestTestfile.cmake   tests/CTestTestfile.cmake
#   tests/octavo_{ops,passes,recipes,train,engine,cli,backends_cuda}_tests
#
# OCTAVO_JOBS tests (else 8) run side by side.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${OCTAVO_BUILD:-build/cuda}
jobs=${OCTAVO_JOBS:-8}
compile=true stages='' wanted='*' results=''
[ -z "${OCTAVO_BUILD:-}" ] || compile=false
while [ $# -gt 0 ]; do
    case $1 in
        --no-build) compile=false ;;
        --tests | --bench | --recipes | --gemm | --sanitize) stages+=" ${1#--} " ;;
        --only)
            [ $# -gt 1 ] || { echo "gpu-check: --only takes a pattern, as '*7b*'" >&2; exit 2; }
            wanted=$2
            shift
            ;;
        -*)
            echo "gpu-check: unknown option $1; there are --no-build, --tests, --bench, --recipes," \
                "--gemm, --sanitize and --only" >&2
            exit 2
            ;;
        *) results=$1 ;;
    esac
    shift
done
: "${stages:= tests  bench  recipes  gemm  sanitize }"
stage() { [[ $stages == *" $1 "* ]]; }
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
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

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
    while IFS= read -r line; do
        case $line in
            add_test\(*gpu/* | set_tests_properties\(*gpu/*)
                line=${line//"\"$build_then/"/"\"$build/"}
                printf '%s\n' "${line//"\"$source_then/"/"\"$PWD/"}"
                ;;
        esac
    done < "$build/tests/CTestTestfile.cmake" > "$folder/CTestTestfile.cmake"
    OCTAVO_FIXTURES=$PWD/tests/fixtures OCTAVO_PROGRAM=$octavo try "GPU tests" 3600 \
        ctest --test-dir "$folder" -L gpu -j "$jobs" --no-tests=error --output-on-failure
}

# sanitize TOOL SECONDS: the op tests under a tool, in shards. Each runs its tests in an order of
# the day, since the slow ones do not all get their turn.
sanitize() {
    local tool=$1 seconds=$2 shard status tests=0 late=0 log
    local seed=$((10#$(date +%j)))
    local finding='^========= (Invalid|Error|Uninitialized|Race|Warning|Program hit)|FAILED'
    # Kernels of NVIDIA's libraries, whose hand-overs of shared memory racecheck does not follow
    # (docs/performance.md). To exclude them makes them fault under it.
    local handed_over='Race reported.*(nvjet|cudnn)' known=0
    local pids=()
    for ((shard = 0; shard < jobs; ++shard)); do
        OCTAVO_TEST_BACKEND=cuda OMP_WAIT_POLICY=passive OMP_NUM_THREADS=1 \
            OCTAVO_FIXTURES=$PWD/tests/fixtures GTEST_TOTAL_SHARDS=$jobs GTEST_SHARD_INDEX=$shard \
            timeout "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 9 \
            "$build/tests/octavo_ops_tests" --gtest_shuffle --gtest_random_seed=$seed \
            > "$folder/$tool.$shard" 2>&1 &
        pids+=($!)
    done
    for ((shard = 0; shard < jobs; ++shard)); do
        status=0
        wait "${pids[$shard]}" || status=$?
        log=$folder/$tool.$shard
        tests=$((tests + $(grep -c '^\[       OK \]' "$log" || true)))
        # Findings are printed as they are made, also by a shard that is stopped later.
        if [ $status = 124 ] && ! grep -qE "$finding" "$log"; then
            late=$((late + 1))
        elif [ $tool = racecheck ] && grep -qE "$handed_over" "$log" &&
            ! grep -E "$finding" "$log" | grep -vE "$handed_over" > /dev/null; then
            known=$((known + $(grep -cE "$handed_over" "$log")))
        elif [ $status != 0 ]; then
            failures+=("$tool, shard $shard of $jobs, seed $seed: exit code $status")
            grep -E '^=========|FAILED' "$log" | head -40 || true
        fi
    done
    [ $tests -gt 0 ] || failures+=("$tool: no test ended in $seconds s")
    echo "== $tool: $tests op tests in order $seed; $late of $jobs shards out of time after $seconds s," \
        "$known reports of kernels of cuBLASLt and cuDNN"
}

# Benches: seconds, then what follows `octavo bench`, where a ~ is a blank within a word. Of the
# states, d are what the recipe takes by itself; else master, gradient, m and v.
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
list_steps() {
    steps 150 gpt2-124m      32 1024 $f32   bf16
    steps 150 gpt2-124m      32 1024 $f32   fp8-lm
    steps 200 tinyllama-1.1b 16 2048 $bf16  bf16
    steps 200 tinyllama-1.1b 16 2048 $bf16  fp8-lm
    steps 200 qwen2.5-1.5b   32 1024 $bf16  fp8-lm
    steps 400 qwen2.5-7b      7 1024 $mixed bf16
    steps 400 qwen2.5-7b      6 1024 $mixed fp8-lm
    steps 400 llama2-7b       1 4096 $bf16  bf16
    steps 400 llama2-7b       2 4096 $mixed fp8-lm
    benches+=("300 op")
}

# All recipes side by side.
list_recipes() {
    local shape seconds model batch states level run
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
    steps 200 qwen2.5-1.5b 24 1024 $bf16  fp8-lm --recipe.weight_scale predicted
    steps 400 qwen2.5-7b    5 1024 $mixed moss --recipe.group 128 --recipe.weight_scale measured
    for level in O1 O2 O3; do
        steps 200 qwen2.5-1.5b 24 1024 d fp8-lm --recipe.level $level
    done
    for level in O2 O3; do
        steps 400 qwen2.5-7b 3 1024 d fp8-lm --recipe.level $level --optimizer.gradient_sum bf16
    done
    for run in 1 2 3 4; do
        steps 200 qwen2.5-1.5b 24 1024 d scalify --recipe.run $run
    done
    steps 400 qwen2.5-7b 1 1024 d scalify --recipe.run 4 --optimizer.gradient_sum bf16
}

list_products() {
    local shape m n k
    for k in 1024 2048 4096 8192 16384; do
        benches+=("150 gemm --m 4096 --n 4096 --k $k --only f32~x~f32,bf16~x~bf16,m3~->~f32")
    done
    # Tokens, outputs, inputs: a training step's, then those of generation.
    for shape in "8192 4096 4096" "8192 11008 4096" "8192 4096 11008" "8192 2048 2048" \
        "8192 5632 2048" "8192 2048 5632" "8192 32000 4096" "8192 8192 8192" "4096 4096 16384" \
        "16 4096 4096" "256 4096 4096"; do
        read -r m n k <<< "$shape"
        benches+=("150 gemm --m $m --n $n --k $k --samples 0 --seconds 0.2 --only bf16,acc,micro,128")
    done
    # Experts: Qwen3-30B-A3B and Mixtral 8x7B, 32k tokens.
    benches+=("150 gemm --experts 128 --m 262144 --n 768 --k 2048")
    benches+=("150 gemm --experts 8 --m 65536 --n 14336 --k 4096")
}

stage tests && run_tests
stage bench && list_steps
stage recipes && list_recipes
stage gemm && list_products
matched=0
for bench in "${benches[@]}"; do
    read -r seconds line <<< "$bench"
    # shellcheck disable=SC2053  # a pattern
    [[ $line == $wanted ]] || continue
    matched=$((matched + 1))
    read -r -a words <<< "$line"
    try "bench $line" "$seconds" "$octavo" bench "${words[@]//\~/ }" --backend cuda \
        --json "$results"
done
if [ ${#benches[@]} -gt 0 ] && [ $matched = 0 ]; then
    failures+=("--only $wanted matches none of ${#benches[@]} benches")
fi
if stage sanitize && ! command -v compute-sanitizer > /dev/null; then
    failures+=("there is no compute-sanitizer, which is part of the CUDA toolkit")
elif stage sanitize; then
    sanitize memcheck 200
    sanitize racecheck 180
    sanitize initcheck 180
fi

if [ ${#failures[@]} -gt 0 ]; then
    printf 'gpu-check: failed: %s\n' "${failures[@]}" >&2
    exit 1
fi
[ ${#benches[@]} -eq 0 ] || echo "results: $results"
