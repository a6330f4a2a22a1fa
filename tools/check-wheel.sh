#!/bin/sh
# Builds the Python wheel, and compares what it holds with the files of pykguard/.
set -eu
cd "$(dirname "$0")/.."
out=$(mktemp -d)
trap 'rm -rf "$out" build/lib build/bdist.*' EXIT
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$out" .
(git ls-files --cached --others --exclude-standard pykguard | sort) > "$out/wanted"
.venv/bin/python -m zipfile -l "$out"/pykguard-*.whl \
    | sed -n 's/^\(pykguard\/[^ ]*\) .*/\1/p' | sort > "$out/found"
diff "$out/wanted" "$out/found" || { echo "the wheel does not hold the package" >&2; exit 1; }
echo "the wheel holds $(wc -l < "$out/found") files"
