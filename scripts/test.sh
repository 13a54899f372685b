#!/usr/bin/env bash
# Builds and runs all tests. Arguments go to ctest: scripts/test.sh -R parity
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release
ctest --test-dir build/release --output-on-failure -j "$(nproc)" "$@"
