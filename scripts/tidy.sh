#!/usr/bin/env bash
# Runs clang-tidy (.clang-tidy) on the C++ files of src, or on those whose paths match the arguments:
# scripts/tidy.sh src/io src/train/checkpoint
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --tidy
[ -f build/release/compile_commands.json ] || cmake --preset release > /dev/null
[ $# -gt 0 ] || set -- src
# -march=native names features that clang finds odd together on some processors.
run-clang-tidy-19 -quiet -extra-arg=-Wno-invalid-feature-combination -p build/release -j "$(nproc)" "${@/#/$PWD/}"
