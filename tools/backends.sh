#!/bin/sh
# Runs the Python suite in an environment of its own: on JAX, on PyTorch, with the oldest Keras that
# is supported, or with the last one whose progress bar averages means. `tools/setup.sh test` comes
# first. Arguments after NAME go to pytest; after `run` they are a script to run there instead.
# Usage: tools/backends.sh jax|torch|oldest|averaging [[run] ARGUMENT...]
set -eu
cd "$(dirname "$0")/.."

say() { printf 'backends: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

name="${1:-}"
backend="$name"
case "$name" in
    jax) wanted=".[jax,plot,test]" ;;
    torch) wanted=".[plot,test] torch==2.13.0" ;;
    oldest)
        backend="tensorflow"
        keras=$(sed -n 's/.*"keras>=\([0-9.]*\)".*/\1/p' pyproject.toml)
        tensorflow=$(sed -n 's/.*"tensorflow>=\([0-9.]*\);.*/\1/p' pyproject.toml)
        wanted=".[tensorflow,plot,test] keras==$keras.0 tensorflow-cpu==$tensorflow.* numpy<2"
        .venv/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))' ||
            die "TensorFlow $tensorflow needs Python 3.12 or older; remove .venv and set PYTHON to one"
        ;;
    averaging)
        backend="tensorflow"
        wanted=".[tensorflow,plot,test] keras==3.14.1 numpy<2"
        ;;
    *) die "usage: tools/backends.sh jax|torch|oldest|averaging [ARGUMENT...]" ;;
esac
shift

# What was installed is noted, so that a second run does not ask pip.
environment=".venv-$name"
note="$environment/.ready-$(printf '%s' "$wanted|$(cat pyproject.toml)" | cksum | tr ' ' '-')"
if [ ! -e "$note" ]; then
    say "installing $wanted into $environment"
    rm -f "$environment"/.ready-*
    [ -x "$environment/bin/pip" ] || .venv/bin/python -m venv --clear "$environment"
    # shellcheck disable=SC2086
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check $wanted
    "$environment/bin/python" -m pip uninstall --quiet --disable-pip-version-check --yes pykguard
    : > "$note"
fi

if [ "${1:-}" = run ]; then shift; else set -- -m pytest "$@"; fi
say "$* in $environment"
exec env KERAS_BACKEND="$backend" PYTHONPATH="$PWD" "$environment/bin/python" "$@"
