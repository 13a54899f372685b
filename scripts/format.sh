#!/usr/bin/env bash
# Checks the formatting of all C++ files, or with --write mends it.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh --format
mode=(--dry-run --Werror)
[ "${1:-}" = --write ] && mode=(-i)
git ls-files -z '*.cpp' '*.h' '*.cu' '*.cuh' | xargs -0 clang-format-19 "${mode[@]}"
