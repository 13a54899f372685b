#!/usr/bin/env bash
# Installs the Debian packages that Octavo needs and that are missing. Needs root or sudo only if
# there are any.
#
#   scripts/setup.sh           what it takes to build, test and run
#   scripts/setup.sh --demo    and the demo's text
#   scripts/setup.sh --format  and the formatter
set -euo pipefail

packages=(
    g++ cmake ninja-build pkg-config ccache
    libdnnl-dev libfmt-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
    libzstd-dev libxxhash-dev libgtest-dev
)
for option in "$@"; do
    case $option in
        --demo) packages+=(dict-gcide) ;;
        --format) packages+=(clang-format-19) ;;
        *) echo "setup.sh: unknown option $option" >&2; exit 2 ;;
    esac
done

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

run=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo > /dev/null; then
        echo "setup.sh: these packages are missing: ${missing[*]}" >&2
        echo "  Install them as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    run=(sudo)
fi
echo "installing ${missing[*]}"
"${run[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends \
    "${missing[@]}" > /dev/null
