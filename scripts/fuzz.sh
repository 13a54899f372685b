#!/usr/bin/env bash
# Fuzzes the readers of foreign files: scripts/fuzz.sh [seconds per target] [target]...
#
# With clang++ and its libFuzzer, guided by coverage; else with tests/fuzz/driver.cpp under the asan
# preset. Exits 1 if an input broke a target; it is kept in build/fuzz/<target>/findings.
# OCTAVO_FUZZ_SEED varies the run.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-600}
shift || true
targets=("$@")
if [[ ${#targets[@]} -eq 0 ]]; then
    for file in tests/fuzz/*_fuzz.cpp; do
        targets+=("$(basename "$file" _fuzz.cpp)")
    done
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export UBSAN_OPTIONS=print_stacktrace=1

libfuzzer=no
sanitizers=fuzzer,address,undefined
echo 'extern "C" int LLVMFuzzerTestOneInput(const char*, unsigned long) { return 0; }' >"$work/t.cpp"
if command -v clang++ >/dev/null &&
    clang++ -fsanitize=$sanitizers "$work/t.cpp" -o "$work/t" 2>/dev/null; then
    libfuzzer=yes
fi
echo "fuzz: ${#targets[@]} targets, $seconds s each, libFuzzer: $libfuzzer"

# Each prints its log and returns the target's exit status.
build_and_run_libfuzzer() {
    local name=$1 dictionary=()
    local sources
    sources=$(sed -n 's|^// Build with: ||p' "tests/fuzz/${name}_fuzz.cpp")
    # shellcheck disable=SC2086  # a list of files and libraries
    clang++ -std=c++20 -O1 -g -w -Isrc -fsanitize=$sanitizers -fno-sanitize-recover=all \
        "tests/fuzz/${name}_fuzz.cpp" $sources -o "build/fuzz/$name/run" || return 1
    [[ -f tests/fuzz/$name.dict ]] && dictionary=(-dict="tests/fuzz/$name.dict")
    mkdir -p "$work/$name"
    "build/fuzz/$name/run" "${dictionary[@]}" -seed="${OCTAVO_FUZZ_SEED:-0}" -timeout=20 \
        -rss_limit_mb=2048 -max_total_time="$seconds" -print_final_stats=1 -verbosity=1 \
        -artifact_prefix="build/fuzz/$name/findings/" "$work/$name" "tests/fuzz/corpus/$name"
}

build_and_run_driver() {
    local name=$1 root=$PWD dictionary=()
    [[ -d build/asan ]] || cmake --preset asan >/dev/null || return 1
    cmake --build --preset asan --target "octavo_fuzz_$name" || return 1
    [[ -f tests/fuzz/$name.dict ]] && dictionary=(-dict="$root/tests/fuzz/$name.dict")
    (cd "build/fuzz/$name/findings" &&
        OCTAVO_FUZZ_SECONDS=$seconds "$root/build/asan/tests/octavo_fuzz_$name" \
            "${dictionary[@]}" "$root/tests/fuzz/corpus/$name")
}

failed=()
for name in "${targets[@]}"; do
    mkdir -p "build/fuzz/$name/findings"
    log=build/fuzz/$name/log
    run=build_and_run_driver
    [[ $libfuzzer == yes ]] && run=build_and_run_libfuzzer
    if $run "$name" >"$log" 2>&1; then
        echo "fuzz: $name: nothing found ($(grep -E '^stat::number_of_executed|mutations' "$log" |
            tail -1 | tr -s ' '))"
    else
        failed+=("$name")
        tail -40 "$log"
        echo "fuzz: $name: FAILED, log in $log, inputs in build/fuzz/$name/findings"
    fi
done
[[ ${#failed[@]} -eq 0 ]]
