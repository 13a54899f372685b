#!/usr/bin/env bash
# Sets up and builds one preset: scripts/build.sh release [cmake build arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-release}
shift || true

if [ "$preset" = cuda ]; then
    scripts/setup.sh --cuda
else
    scripts/setup.sh
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cmake --preset "$preset" > "$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
cmake --build "build/$preset" "$@"
