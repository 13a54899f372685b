#!/usr/bin/env bash
# Installs the Debian packages that Octavo needs and that are missing. Needs root or sudo only if
# there are any.
#
#   scripts/setup.sh           what it takes to build, test and run
#   scripts/setup.sh --demo    and the demo's text
#   scripts/setup.sh --format  and the formatter
#   scripts/setup.sh --tidy    and the linter
#   scripts/setup.sh --cuda    and the headers of cudnn-frontend, into build/ (CUDA 13 and cuDNN 9
#                              themselves come from NVIDIA)
set -euo pipefail

packages=(
    g++ cmake ninja-build pkg-config ccache
    libdnnl-dev libfmt-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
    libzstd-dev libxxhash-dev libpcre2-dev libutf8proc-dev libgtest-dev
    libcpp-httplib-dev curl
)
frontend=no
for option in "$@"; do
    case $option in
        --cuda) packages+=(python3-pip unzip) frontend=yes ;;
        --demo) packages+=(dict-gcide) ;;
        --format) packages+=(clang-format-19) ;;
        --tidy) packages+=(clang-tidy-19) ;;
        *) echo "setup.sh: unknown option $option" >&2; exit 2 ;;
    esac
done

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done

fetch_frontend() {
    local folder work
    folder=$(dirname "$0")/../build/cudnn-frontend
    [ "$frontend" = yes ] && [ ! -f "$folder/include/cudnn_frontend.h" ] || return 0
    work=$(mktemp -d)
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" \
        nvidia-cudnn-frontend==1.32.0
    mkdir -p "$folder"
    unzip -q -o "$work"/nvidia_cudnn_frontend-*.whl 'include/*' -d "$folder"
    rm -r "$work"
}

if [ ${#missing[@]} -eq 0 ]; then
    fetch_frontend
    exit 0
fi

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
fetch_frontend
