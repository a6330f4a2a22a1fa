#!/bin/sh
# Brings a machine to the point where `make demo`, `make examples` or `make test` can run: R and its
# packages from the distribution, Python packages into .venv. Installs only what is missing and asks
# nothing.
# Usage: tools/setup.sh demo|examples|test
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

case "${1:-}" in
    demo) r_packages="reticulate R6 ggplot2"; tools=""; extras="tensorflow" ;;
    examples)
        r_packages="reticulate R6 ggplot2 survival"
        tools=""
        extras="tensorflow,plot,examples"
        ;;
    test)
        r_packages="reticulate R6 ggplot2 survival testthat jsonlite roxygen2 lintr knitr rmarkdown"
        r_packages="$r_packages covr spelling"
        tools="pandoc tidy qpdf"
        extras="tensorflow,plot,test"
        ;;
    *) die "usage: tools/setup.sh demo|examples|test" ;;
esac

# ---------------------------------------------------------------- what the system lacks
missing=""
need() { case " $missing " in *" $1 "*) ;; *) missing="$missing $1" ;; esac; }

debian_name() { printf 'r-cran-%s' "$(printf '%s' "$1" | tr '[:upper:]' '[:lower:]')"; }

look_for_r() {
    if command -v Rscript >/dev/null 2>&1; then
        Rscript --vanilla -e '
            wanted <- commandArgs(TRUE)
            found <- rownames(installed.packages())
            cat(setdiff(wanted, found), sep = "\n")' $r_packages
    else
        printf '%s\n' $r_packages
    fi
}

# A Python that reticulate can bind to: 3.10 or newer, a shared libpython on disk, and venv.
usable_python() {
    "$1" - <<'PY' >/dev/null 2>&1
import os, sys, sysconfig
import ensurepip, venv
var = sysconfig.get_config_var
name = var("INSTSONAME") or ""
places = [var("LIBDIR"), os.path.join(var("LIBDIR") or "", var("MULTIARCH") or "")]
shared = any(name and os.path.exists(os.path.join(p, name)) for p in places if p)
sys.exit(not (sys.version_info >= (3, 10) and shared))
PY
}

find_python() {
    for candidate in ${PYTHON:-} python3 /usr/bin/python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null 2>&1 && usable_python "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

for package in $(look_for_r); do need "$(debian_name "$package")"; done
command -v Rscript >/dev/null 2>&1 || need r-base-core
for tool in $tools; do command -v "$tool" >/dev/null 2>&1 || need "$tool"; done

if [ ! -x .venv/bin/python ] && ! find_python >/dev/null; then
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3)
    need python3
    need python3-venv
    need "libpython$version"
fi

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null 2>&1 || die "please install (Debian's names; see README for CRAN's):$missing"
    [ "$(id -u)" = 0 ] || die "not root: please run 'apt-get install$missing' first"
    say "installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update
    apt-get -qq install -y --no-install-recommends $missing >/dev/null
fi

# ---------------------------------------------------------------- Python packages, in .venv
old_reticulate=$(Rscript --vanilla -e 'cat(packageVersion("reticulate") < "1.38")')
pins=""
[ "$old_reticulate" = TRUE ] && pins="numpy<2"

if ! .venv/bin/python -c 'import sys' >/dev/null 2>&1; then
    python=$(find_python) || die "no Python 3.10 or newer with a shared libpython and venv was found"
    rm -rf .venv
    say "creating .venv with $python"
    "$python" -m venv .venv
fi

# What was installed is noted, so that a second run does not ask pip; `test` includes the others.
version=$(printf '%s' "$pins|$(cat pyproject.toml)" | cksum | tr ' ' '-')
if [ ! -e ".venv/.$1-$version" ] && [ ! -e ".venv/.test-$version" ]; then
    say "installing Python packages into .venv ($extras)"
    rm -f .venv/.demo-* .venv/.examples-* .venv/.test-*
    pip_install=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
    $pip_install -e ".[$extras]" $pins
    if [ "$1" = test ]; then
        # By itself tf_keras would bring the TensorFlow that is not for the CPU alone.
        tensorflow=$(.venv/bin/python - <<'PY'
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

folder = Path(find_spec("tensorflow").origin).parents[1]
names = {path.name.split("-")[0] for path in folder.glob("tensorflow*.dist-info")}
print(version(next(n for n in sorted(names) if n in ("tensorflow", "tensorflow_cpu"))))
PY
        )
        $pip_install --no-deps "tf_keras~=${tensorflow%.*}.0"
    fi
    : > ".venv/.$1-$version"
fi
