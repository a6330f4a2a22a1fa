#!/bin/sh
# Builds the R package's tarball into build/ from a clean copy of the tracked and new files.
# Usage: tools/build.sh [options of R CMD build]
set -eu
cd "$(dirname "$0")/.."
[ -e inst/python/pykguard/__init__.py ] || {
    echo "build: inst/python/pykguard does not lead to the Python core" >&2
    exit 1
}
mkdir -p build
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard \
    | tar --null --files-from=- --ignore-failed-read -cf - 2>/dev/null | tar -xf - -C "$copy"
rm -f build/kguard_*.tar.gz
(cd build && R CMD build "$@" "$copy")
